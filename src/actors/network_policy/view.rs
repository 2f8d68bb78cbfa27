//! What the units of this node plan from: the cluster's policies and namespaces, and the pods of this node. Parts are read without locks.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use troupe_api::meta::ObjectKey;

use super::{
    cluster::ClusterPolicyView,
    deciding::Deciding,
    model::{Labels, PodView, PolicyView},
};

type Pods = OrdMap<ObjectKey, Arc<PodView>>;
type Policies = OrdMap<ObjectKey, Arc<PolicyView>>;

/// See the module.
#[derive(Default)]
pub struct View {
    policies: ArcSwap<Policies>,
    cluster: ArcSwap<OrdMap<ObjectKey, Arc<ClusterPolicyView>>>,
    /// Labels by namespace.
    namespaces: ArcSwap<OrdMap<Arc<str>, Arc<Labels>>>,
    /// As the API has them.
    pods: ArcSwap<Pods>,
    /// As the kubelet has them when it starts them: with addresses that the API does not know yet.
    admitted: ArcSwap<Pods>,
}

impl View {
    /// Puts a policy in the place of an older version; gives both.
    pub fn set_policy(&self, key: &ObjectKey, policy: Option<PolicyView>) -> (Option<Arc<PolicyView>>, Option<Arc<PolicyView>>) {
        replace(&self.policies, key, policy)
    }

    /// The same of a cluster network policy.
    pub fn set_cluster_policy(
        &self,
        key: &ObjectKey,
        policy: Option<ClusterPolicyView>,
    ) -> (Option<Arc<ClusterPolicyView>>, Option<Arc<ClusterPolicyView>>) {
        replace(&self.cluster, key, policy)
    }

    /// The labels of a namespace; says whether they changed.
    pub fn set_namespace(&self, name: &Arc<str>, labels: Option<Labels>) -> bool {
        let after = labels.map(Arc::new);
        put(&self.namespaces, name, after.clone()) != after
    }

    /// The same of a pod as the API has it.
    pub fn set_pod(&self, key: &ObjectKey, pod: Option<PodView>) -> (Option<Arc<PodView>>, Option<Arc<PodView>>) {
        replace(&self.pods, key, pod)
    }

    /// The same of a pod as the kubelet starts it.
    pub fn set_admitted(&self, key: &ObjectKey, pod: Option<PodView>) -> (Option<Arc<PodView>>, Option<Arc<PodView>>) {
        replace(&self.admitted, key, pod)
    }

    /// A pod runs already, though the API may not know its addresses yet. What the kubelet has said since is newer.
    pub fn note_running(&self, pod: PodView) {
        let key = pod.key.clone();
        // Who has the node's network shows its address, or none.
        let on_host = self.pods.load().get(&key).is_some_and(|known| known.uid == pod.uid && !known.is_policed());
        if !on_host && !self.admitted.load().contains_key(&key) {
            self.set_admitted(&key, Some(pod));
        }
    }

    /// A pod has its addresses no more.
    pub fn leave(&self, key: &ObjectKey, uid: &str) {
        if self.admitted.load().get(key).is_some_and(|pod| &*pod.uid == uid) {
            self.set_admitted(key, None);
        }
        let known = self.pods.load().get(key).filter(|pod| &*pod.uid == uid).cloned();
        if let Some(pod) = known {
            self.set_pod(key, Some(PodView { ips: Vec::new(), ..PodView::clone(&pod) }));
        }
    }

    /// Takes addresses from all pods but one; gives those that had any.
    pub fn take_addresses(&self, ips: &[IpAddr], owner: &ObjectKey) -> Vec<ObjectKey> {
        let mut robbed = Vec::new();
        for pod in self.local_pods("").into_iter().filter(|pod| pod.key != *owner && pod.ips.iter().any(|ip| ips.contains(ip))) {
            self.leave(&pod.key, &pod.uid);
            robbed.push(pod.key.clone());
        }
        robbed
    }

    pub fn has_policies(&self) -> bool {
        !self.policies.load().is_empty() || self.has_cluster_policies()
    }

    pub fn has_cluster_policies(&self) -> bool {
        !self.cluster.load().is_empty()
    }

    /// What decides about the pods of a namespace.
    pub fn deciding(&self, namespace: &str) -> Deciding {
        Deciding {
            policies: self.policies_of(namespace),
            cluster: self.cluster_policies(),
            namespace: self.namespaces.load().get(namespace).cloned(),
        }
    }

    pub fn cluster_policies(&self) -> Vec<Arc<ClusterPolicyView>> {
        self.cluster.load().values().cloned().collect()
    }

    pub fn cluster_policy(&self, key: &ObjectKey) -> Option<Arc<ClusterPolicyView>> {
        self.cluster.load().get(key).cloned()
    }

    /// Whether a cluster network policy selects a pod of this node.
    pub fn is_about_a_pod(&self, policy: &ClusterPolicyView) -> bool {
        let namespaces = self.namespaces.load();
        let selects = |pod: &Arc<PodView>| namespaces.get(&pod.key.namespace).is_some_and(|labels| policy.selects(pod, labels));
        self.local_pods("").iter().any(selects)
    }

    pub fn policy(&self, key: &ObjectKey) -> Option<Arc<PolicyView>> {
        self.policies.load().get(key).cloned()
    }

    /// The policies of a namespace.
    pub fn policies_of(&self, namespace: &str) -> Vec<Arc<PolicyView>> {
        of_namespace(&self.policies.load(), namespace)
    }

    pub fn policies(&self) -> Vec<Arc<PolicyView>> {
        self.policies.load().values().cloned().collect()
    }

    /// A pod of this node that policies can select: with the labels that the API has, and the addresses that the kubelet gave it.
    pub fn pod(&self, key: &ObjectKey) -> Option<Arc<PodView>> {
        let (pods, admitted) = (self.pods.load(), self.admitted.load());
        let pod = match (pods.get(key), admitted.get(key)) {
            (Some(known), Some(admitted)) if known.uid == admitted.uid && known.ips != admitted.ips => {
                Arc::new(PodView { ips: admitted.ips.clone(), ..PodView::clone(known) })
            }
            // Another pod of that name is gone, though we have not heard of it yet.
            (Some(known), Some(admitted)) if known.uid != admitted.uid => admitted.clone(),
            (Some(known), _) => known.clone(),
            (None, admitted) => admitted?.clone(),
        };
        Some(pod).filter(|pod| pod.is_policed())
    }

    /// The keys of all pods of this node, of one namespace unless it is empty.
    pub fn keys(&self, namespace: &str) -> Vec<ObjectKey> {
        let (pods, admitted) = (self.pods.load(), self.admitted.load());
        let mut keys: Vec<ObjectKey> =
            pods.keys().chain(admitted.keys()).filter(|key| namespace.is_empty() || &*key.namespace == namespace).cloned().collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// The pods of this node that policies can select, of one namespace unless it is empty.
    pub fn local_pods(&self, namespace: &str) -> Vec<Arc<PodView>> {
        self.keys(namespace).iter().filter_map(|key| self.pod(key)).collect()
    }
}

fn replace<T>(map: &ArcSwap<OrdMap<ObjectKey, Arc<T>>>, key: &ObjectKey, value: Option<T>) -> (Option<Arc<T>>, Option<Arc<T>>) {
    let value = value.map(Arc::new);
    (put(map, key, value.clone()), value)
}

/// Puts a value in the place of the one before, which is returned; `None` takes it away.
pub fn put<K: Clone + Ord, V: Clone>(map: &ArcSwap<OrdMap<K, V>>, key: &K, value: Option<V>) -> Option<V> {
    let mut before = None;
    map.rcu(|map| {
        let mut next = OrdMap::clone(map);
        before = match &value {
            Some(value) => next.insert(key.clone(), value.clone()),
            None => next.remove(key),
        };
        next
    });
    before
}

fn of_namespace<T>(map: &OrdMap<ObjectKey, Arc<T>>, namespace: &str) -> Vec<Arc<T>> {
    let range = map.range(ObjectKey::new(namespace, "")..);
    range.take_while(|(key, _)| &*key.namespace == namespace).map(|(_, value)| value.clone()).collect()
}

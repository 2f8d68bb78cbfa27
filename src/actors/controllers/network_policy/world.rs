//! What policies' peers follow from: policies, pods and the labels of namespaces, held small. Written by the caches' threads, read without
//! locks.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::Family;

use super::plan::{Part, Peers};
use crate::network_policy::{
    model::{Labels, PeerSelector, PeerSet, PodView, PolicyView},
    view::put,
};

/// A policy's sets of pods.
type Sets = Arc<Vec<(Arc<str>, PeerSet)>>;

/// See the module.
#[derive(Default)]
pub struct World {
    policies: ArcSwap<OrdMap<ObjectKey, Sets>>,
    pods: ArcSwap<OrdMap<ObjectKey, Arc<PodView>>>,
    namespaces: ArcSwap<OrdMap<Arc<str>, Arc<Labels>>>,
}

impl World {
    /// A policy changed; gives its namespace when its peers did.
    pub fn set_policy(&self, key: &ObjectKey, policy: Option<PolicyView>) -> Option<Arc<str>> {
        let sets = |policy: PolicyView| policy.peer_sets().into_iter().filter(|(_, set)| set.selector().is_some()).collect::<Vec<_>>();
        let after = policy.map(|policy| Arc::new(sets(policy)));
        let before = put(&self.policies, key, after.clone());
        (before != after).then(|| key.namespace.clone())
    }

    /// A pod changed; gives the namespaces of policies that have or had it as a peer.
    pub fn set_pod(&self, key: &ObjectKey, pod: Option<PodView>) -> Vec<Arc<str>> {
        let after = pod.map(Arc::new);
        let before = put(&self.pods, key, after.clone());
        if before == after {
            return Vec::new();
        }
        let (policies, namespaces) = (self.policies.load(), self.namespaces.load());
        let labels = namespaces.get(&key.namespace).map(Arc::as_ref);
        let concerns = |selector: &PeerSelector| before.iter().chain(&after).any(|pod| selector.selects(pod, labels));
        let touched = policies.iter().filter(|(_, sets)| sets.iter().filter_map(|(_, set)| set.selector()).any(concerns));
        touched.map(|(policy, _)| policy.namespace.clone()).collect()
    }

    /// The labels of a namespace changed; gives the namespaces of policies for which that matters.
    pub fn set_namespace(&self, name: &Arc<str>, labels: Option<Labels>) -> Vec<Arc<str>> {
        let after = labels.map(Arc::new);
        let before = put(&self.namespaces, name, after.clone());
        if before == after {
            return Vec::new();
        }
        let selects = |selector: &PeerSelector, labels: &Option<Arc<Labels>>| match (&selector.namespaces, labels) {
            (Some(selector), Some(labels)) => selector.matches(labels),
            _ => false,
        };
        let policies = self.policies.load();
        let moved = |selector: &PeerSelector| selects(selector, &before) != selects(selector, &after);
        let touched = policies.iter().filter(|(_, sets)| sets.iter().filter_map(|(_, set)| set.selector()).any(moved));
        touched.map(|(policy, _)| policy.namespace.clone()).collect()
    }

    /// The addresses of all peers of the policies of a namespace.
    pub fn peers_of(&self, namespace: &str) -> Peers {
        let (policies, pods, namespaces) = (self.policies.load(), self.pods.load(), self.namespaces.load());
        let range = policies.range(ObjectKey::new(namespace, "")..);
        let sets: BTreeMap<&Arc<str>, &PeerSet> =
            range.take_while(|(key, _)| &*key.namespace == namespace).flat_map(|(_, sets)| sets.iter().map(|(id, set)| (id, set))).collect();
        let mut peers = Peers::new();
        for (id, set) in sets {
            let Some(selector) = set.selector() else { continue };
            let own = ObjectKey::new(namespace, "");
            let all: Box<dyn Iterator<Item = &Arc<PodView>>> = match &selector.namespaces {
                None => Box::new(pods.range(own..).take_while(|(key, _)| &*key.namespace == namespace).map(|(_, pod)| pod)),
                Some(_) => Box::new(pods.values()),
            };
            for pod in all.filter(|pod| selector.selects(pod, namespaces.get(&pod.key.namespace).map(Arc::as_ref))) {
                add(&mut peers, id, set, pod);
            }
        }
        peers
    }
}

fn add(peers: &mut Peers, id: &Arc<str>, set: &PeerSet, pod: &PodView) {
    let ports = match set {
        PeerSet::Ports(_, name, protocol) => pod.numbers(name, *protocol).into_iter().map(|port| Some((*protocol, port))).collect(),
        _ => vec![None],
    };
    for port in ports {
        for ip in &pod.ips {
            let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
            peers.entry(Part { id: id.clone(), family, port }).or_default().insert(*ip);
        }
    }
}

//! What the rules of nodes come to, planned from a cluster's objects without a cluster: for explanations and tests. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::{core::v1::Node, discovery::v1::EndpointSlice};
use troupe_api::meta::ObjectKey;
use troupe_net::{
    dns::cluster_addresses::ClusterAddresses,
    iptables::{Family, RuleSet},
};

use super::{
    plan::plan,
    world::{NodeView, World},
};
use crate::{
    controllers::endpointslice::plan::Action,
    network_policy::{
        cluster::{ClusterPolicyView, HOME},
        deciding::Deciding,
        layout::{PolicyLayout, PolicyOwner, base},
        model::{Labels, PeerSet, PodView, PolicyView},
        plan::{peer_rules, pod_rules},
        slices::{PEERS_LABEL, entries},
    },
    rules::{Changes, Ledger},
};

/// A cluster's objects.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// Labels by namespace.
    pub namespaces: BTreeMap<String, Labels>,
    pub nodes: Vec<Node>,
    pub pods: Vec<PodView>,
    pub policies: Vec<Arc<PolicyView>>,
    pub cluster_policies: Vec<Arc<ClusterPolicyView>>,
    /// What domain names lead to.
    pub domain_slices: Vec<EndpointSlice>,
    /// Where they do not lead.
    pub inside: ClusterAddresses,
}

impl Planned {
    /// All rules of policies of a family about the pods that are `here`.
    pub fn rules(&self, family: Family, here: impl Fn(&PodView) -> bool) -> RuleSet {
        let mut ledger = Ledger::<PolicyLayout>::new(base(family), family);
        ledger.commit(&self.changes(family, here));
        ledger.wanted()
    }

    /// The same by whom a rule table would have them of.
    pub fn changes(&self, family: Family, here: impl Fn(&PodView) -> bool) -> Changes<PolicyOwner> {
        let (world, mut changes) = (self.world(), Changes::<PolicyOwner>::new());
        let of_namespaces = self.policies.iter().map(|policy| (&*policy.key.namespace, policy.peer_sets()));
        let of_cluster = self.cluster_policies.iter().map(|policy| (HOME, policy.peer_sets()));
        for (home, sets) in of_namespaces.chain(of_cluster) {
            let slices = slices_of(&world, home);
            for (id, set) in sets {
                let rules = match &set {
                    PeerSet::Domain(_) => {
                        let told = told(&set, &id, &self.domain_slices, family);
                        peer_rules(&set, told.filter(|entry| self.is_outside(entry)), family)
                    }
                    _ => peer_rules(&set, told(&set, &id, &slices, family), family),
                };
                changes.insert(PolicyOwner::Peers(id.clone()), Some(Arc::new(rules)));
            }
        }
        for pod in self.pods.iter().filter(|pod| pod.is_policed() && here(pod)) {
            changes.insert(PolicyOwner::Pod(pod.key.clone()), Some(Arc::new(pod_rules(pod, &self.deciding(pod), family))));
        }
        changes
    }

    fn is_outside(&self, entry: &str) -> bool {
        entry.parse::<IpAddr>().is_ok_and(|ip| self.inside.refuses(ip).is_none())
    }

    fn world(&self) -> World {
        let world = World::default();
        for (name, labels) in &self.namespaces {
            world.set_namespace(&name.as_str().into(), Some(labels.clone()));
        }
        for node in &self.nodes {
            world.set_node(&node.metadata.name.as_deref().unwrap_or_default().into(), Some(NodeView::of(node)));
        }
        for policy in &self.policies {
            world.set_policy(&policy.key, Some(PolicyView::clone(policy)));
        }
        for policy in &self.cluster_policies {
            world.set_cluster_policy(&ObjectKey::cluster(policy.name.clone()), Some(ClusterPolicyView::clone(policy)));
        }
        for pod in &self.pods {
            world.set_pod(&pod.key, Some(pod.clone()));
        }
        world
    }

    fn deciding(&self, pod: &PodView) -> Deciding {
        Deciding {
            policies: self.policies.clone(),
            cluster: self.cluster_policies.clone(),
            namespace: self.namespaces.get(&*pod.key.namespace).map(|labels| Arc::new(labels.clone())),
        }
    }
}

/// The slices that tell a namespace's peers, where there were none before.
fn slices_of(world: &World, namespace: &str) -> Vec<EndpointSlice> {
    let made = |action: Action| match action {
        Action::Create(slice) => Some(*slice),
        Action::Update(_) | Action::Delete { .. } => None,
    };
    plan(namespace, world.peers_of(namespace), &[]).into_iter().filter_map(made).collect()
}

/// The entries that slices tell of a set.
fn told<'a>(set: &PeerSet, id: &'a str, slices: &'a [EndpointSlice], family: Family) -> impl Iterator<Item = String> + use<'a> {
    let kind = set.kind();
    let label =
        move |slice: &&EndpointSlice| slice.metadata.labels.as_ref().and_then(|labels| labels.get(PEERS_LABEL)).is_some_and(|found| found == id);
    slices.iter().filter(label).flat_map(move |slice| entries(slice, kind, family))
}

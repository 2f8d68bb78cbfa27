//! What the rules of nodes come to, planned from a cluster's objects without a cluster: for explanations and tests. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use troupe_net::iptables::{Family, RuleSet};

use super::{plan::plan, world::World};
use crate::{
    controllers::endpointslice::plan::Action,
    network_policy::{
        layout::{PolicyLayout, PolicyOwner, base},
        model::{Labels, PeerSet, PodView, PolicyView},
        plan::{peer_rules, pod_rules},
        slices::{PEERS_LABEL, entries},
    },
    rules::{Changes, Ledger},
};

/// All rules of policies of a family about the pods that are `here`.
pub fn rules(
    family: Family,
    namespaces: &BTreeMap<String, Labels>,
    pods: &[PodView],
    policies: &[Arc<PolicyView>],
    here: impl Fn(&PodView) -> bool,
) -> RuleSet {
    let (world, mut ledger) = (World::default(), Ledger::<PolicyLayout>::new(base(family), family));
    for (name, labels) in namespaces {
        world.set_namespace(&name.as_str().into(), Some(labels.clone()));
    }
    for policy in policies {
        world.set_policy(&policy.key, Some(PolicyView::clone(policy)));
    }
    for pod in pods {
        world.set_pod(&pod.key, Some(pod.clone()));
    }
    let mut changes = Changes::<PolicyOwner>::new();
    for policy in policies {
        let slices = slices_of(&world, &policy.key.namespace);
        for (id, set) in policy.peer_sets() {
            changes.insert(PolicyOwner::Peers(id.clone()), Some(Arc::new(peers(&set, &id, &slices, family))));
        }
    }
    for pod in pods.iter().filter(|pod| pod.is_policed() && here(pod)) {
        changes.insert(PolicyOwner::Pod(pod.key.clone()), Some(Arc::new(pod_rules(pod, policies, family))));
    }
    ledger.commit(&changes);
    ledger.wanted()
}

/// The slices that tell a namespace's peers, where there were none before.
fn slices_of(world: &World, namespace: &str) -> Vec<EndpointSlice> {
    let made = |action: Action| match action {
        Action::Create(slice) => Some(*slice),
        Action::Update(_) | Action::Delete { .. } => None,
    };
    plan(namespace, world.peers_of(namespace), &[]).into_iter().filter_map(made).collect()
}

fn peers(set: &PeerSet, id: &str, slices: &[EndpointSlice], family: Family) -> RuleSet {
    let label = |slice: &&EndpointSlice| slice.metadata.labels.as_ref().and_then(|labels| labels.get(PEERS_LABEL)).is_some_and(|found| found == id);
    peer_rules(set, slices.iter().filter(label).flat_map(|slice| entries(slice, set.kind(), family)), family)
}

//! Which changes may let a pod pass that affinity kept from all nodes.

use k8s_openapi::api::core::v1::Node;

use crate::scheduler::{
    framework::ClusterChange,
    placed_pod::PlacedPod,
    pod_info::PodInfo,
    terms::{NO_LABELS, Term},
};

/// See the module; as upstream's queueing hints, and where those overlook something.
pub fn may_help(pod: &PodInfo, change: &ClusterChange) -> bool {
    let (required, apart) = (&pod.terms.required, &pod.terms.required_anti);
    match change {
        // Others may want it apart no more.
        ClusterChange::WaitingPodUpdated { old, new } => old.metadata.labels != new.metadata.labels,
        ClusterChange::PodAdded(new) => all_match(required, new),
        ClusterChange::PodUpdated { old, new } => {
            (!all_match(required, old) && all_match(required, new)) || (any_matches(apart, old) && !all_match(apart, new))
        }
        ClusterChange::PodRemoved(old) => {
            // Where nobody is left to be near to, the first of a group goes anywhere.
            any_matches(apart, old) || all_match(required, old) || old.terms.required_anti.iter().any(|term| pod.is_selected_by(term))
        }
        ClusterChange::NodeAdded(_) if required.is_empty() || !apart.is_empty() => true,
        ClusterChange::NodeAdded(new) => required.iter().any(|term| label(new, term).is_some()),
        ClusterChange::NodeUpdated { old, new } => {
            let moves_in = |term: &Term| label(new, term).is_some() && label(old, term) != label(new, term);
            let moves_out = |term: &Term| label(old, term).is_some() && label(old, term) != label(new, term);
            // Pods that want this one apart may have moved away with the node.
            let is_left = |(key, value): (&String, &String)| new.metadata.labels.as_ref().and_then(|labels| labels.get(key)) != Some(value);
            required.iter().any(moves_in) || apart.iter().any(moves_out) || old.metadata.labels.iter().flatten().any(is_left)
        }
        // Its pods count no more, though they are not deleted yet.
        ClusterChange::NodeRemoved(_) => true,
        ClusterChange::StorageChanged | ClusterChange::ClaimChanged { .. } | ClusterChange::DevicesChanged | ClusterChange::ClassChanged { .. } => {
            false
        }
    }
}

fn label<'a>(node: &'a Node, term: &Term) -> Option<&'a String> {
    node.metadata.labels.as_ref()?.get(&*term.topology_key)
}

fn matches(term: &Term, pod: &PlacedPod) -> bool {
    term.pods.contains(pod.namespace(), &NO_LABELS, &pod.labels)
}

fn all_match(terms: &[Term], pod: &PlacedPod) -> bool {
    !terms.is_empty() && terms.iter().all(|term| matches(term, pod))
}

fn any_matches(terms: &[Term], pod: &PlacedPod) -> bool {
    terms.iter().any(|term| matches(term, pod))
}

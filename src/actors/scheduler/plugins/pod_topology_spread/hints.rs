//! Which changes may let a pod pass that spreading kept from all nodes.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::scheduler::{
    framework::ClusterChange, placed_pod::PlacedPod, pod_info::PodInfo, spread::Constraint, terms::NO_LABELS, tolerations::gains_toleration,
};

/// See the module; as upstream's queueing hints.
pub fn may_help(pod: &PodInfo, change: &ClusterChange) -> bool {
    let constraints = &pod.spread.hard;
    let concerns = |other: &PlacedPod| other.namespace() == pod.placed.namespace();
    let is_spread = |other: &PlacedPod| concerns(other) && constraints.iter().any(|constraint| constraint.selects(&other.labels));
    let is_counted = |node: &Node| constraints.iter().all(|constraint| label(node, constraint).is_some());
    match change {
        ClusterChange::StorageChanged | ClusterChange::ClaimChanged { .. } | ClusterChange::DevicesChanged | ClusterChange::ClassChanged { .. } => {
            false
        }
        ClusterChange::WaitingPodUpdated { old, new } => {
            let selects = |constraint: &Constraint, pod: &Pod| constraint.selects(pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS));
            let by_taints = constraints.iter().any(|constraint| constraint.honours_taints) && gains_toleration(old, new);
            by_taints || constraints.iter().any(|constraint| selects(constraint, old) != selects(constraint, new))
        }
        ClusterChange::PodAdded(new) => is_spread(new),
        ClusterChange::PodRemoved(old) => is_spread(old),
        ClusterChange::PodUpdated { old, new } => {
            concerns(new) && constraints.iter().any(|constraint| constraint.selects(&old.labels) != constraint.selects(&new.labels))
        }
        ClusterChange::NodeAdded(new) => is_counted(new),
        ClusterChange::NodeRemoved(old) => is_counted(old),
        ClusterChange::NodeUpdated { old, new } => {
            let moves = constraints.iter().any(|constraint| label(old, constraint) != label(new, constraint));
            let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
            // A node that begins or ceases to match the pod's own affinity begins or ceases to count.
            let counts = |node: &Node| constraints.iter().map(|constraint| constraint.counts(&pod.pod, node)).collect::<Vec<bool>>();
            is_counted(old) != is_counted(new) || (is_counted(new) && (moves || taints(old) != taints(new) || counts(old) != counts(new)))
        }
    }
}

fn label<'a>(node: &'a Node, constraint: &Constraint) -> Option<&'a String> {
    node.metadata.labels.as_ref()?.get(&*constraint.topology_key)
}

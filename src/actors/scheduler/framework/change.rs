//! What changed in the cluster, for deciding which unschedulable pods to try again.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::{DeviceClass, ResourceClaim},
};

use crate::scheduler::placed_pod::PlacedPod;

/// A change. Pods here are such that have a node, but for the one that waits itself.
#[derive(Clone, Debug)]
pub enum ClusterChange {
    NodeAdded(Arc<Node>),
    /// Allocatable, labels, taints, declared features or `unschedulable` of a node changed.
    NodeUpdated {
        old: Arc<Node>,
        new: Arc<Node>,
    },
    NodeRemoved(Arc<Node>),
    PodAdded(Arc<PlacedPod>),
    /// Labels or requests of a pod changed.
    PodUpdated {
        old: Arc<PlacedPod>,
        new: Arc<PlacedPod>,
    },
    /// A pod went away or finished.
    PodRemoved(Arc<PlacedPod>),
    /// A claim, a volume or a storage class is there or is another one.
    StorageChanged,
    /// A claim for devices is there or is another one.
    ClaimChanged {
        old: Option<Arc<ResourceClaim>>,
        new: Arc<ResourceClaim>,
    },
    /// A slice of devices, or a rule about them, is there or is another one.
    DevicesChanged,
    /// A class of devices is there or is another one.
    ClassChanged {
        old: Option<Arc<DeviceClass>>,
        new: Arc<DeviceClass>,
    },
    /// The very pod that waits is another one.
    WaitingPodUpdated {
        old: Arc<Pod>,
        new: Arc<Pod>,
    },
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    NodeAdded,
    NodeUpdated,
    NodeRemoved,
    PodAdded,
    PodUpdated,
    PodRemoved,
    StorageChanged,
    ClaimChanged,
    DevicesChanged,
    ClassChanged,
    WaitingPodUpdated,
}

impl Event {
    /// As upstream's metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Event::NodeAdded => "NodeAdd",
            Event::NodeUpdated => "NodeUpdate",
            Event::NodeRemoved => "NodeDelete",
            Event::PodAdded => "AssignedPodAdd",
            Event::PodUpdated => "AssignedPodUpdate",
            Event::PodRemoved => "AssignedPodDelete",
            Event::StorageChanged => "PersistentVolumeClaimUpdate",
            Event::ClaimChanged => "ResourceClaimUpdate",
            Event::DevicesChanged => "ResourceSliceUpdate",
            Event::ClassChanged => "DeviceClassUpdate",
            Event::WaitingPodUpdated => "UnscheduledPodUpdate",
        }
    }
}

impl ClusterChange {
    pub fn event(&self) -> Event {
        match self {
            ClusterChange::NodeAdded(_) => Event::NodeAdded,
            ClusterChange::NodeUpdated { .. } => Event::NodeUpdated,
            ClusterChange::NodeRemoved(_) => Event::NodeRemoved,
            ClusterChange::PodAdded(_) => Event::PodAdded,
            ClusterChange::PodUpdated { .. } => Event::PodUpdated,
            ClusterChange::PodRemoved(_) => Event::PodRemoved,
            ClusterChange::StorageChanged => Event::StorageChanged,
            ClusterChange::ClaimChanged { .. } => Event::ClaimChanged,
            ClusterChange::DevicesChanged => Event::DevicesChanged,
            ClusterChange::ClassChanged { .. } => Event::ClassChanged,
            ClusterChange::WaitingPodUpdated { .. } => Event::WaitingPodUpdated,
        }
    }

    /// A node is another one, but for its labels.
    pub fn leaves_labels(&self) -> bool {
        matches!(self, ClusterChange::NodeUpdated { old, new } if old.metadata.labels == new.metadata.labels)
    }

    /// A node is another one, but for what it has for pods.
    pub fn leaves_allocatable(&self) -> bool {
        let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
        matches!(self, ClusterChange::NodeUpdated { old, new } if allocatable(old) == allocatable(new))
    }

    /// The node before and after, if it is about one.
    pub fn node(&self) -> (Option<&Node>, Option<&Node>) {
        match self {
            ClusterChange::NodeAdded(node) => (None, Some(node)),
            ClusterChange::NodeUpdated { old, new } => (Some(old), Some(new)),
            ClusterChange::NodeRemoved(node) => (Some(node), None),
            _ => (None, None),
        }
    }

    /// The pod before and after, if it is about one.
    pub fn pod(&self) -> (Option<&PlacedPod>, Option<&PlacedPod>) {
        match self {
            ClusterChange::PodAdded(pod) => (None, Some(pod)),
            ClusterChange::PodUpdated { old, new } => (Some(old), Some(new)),
            ClusterChange::PodRemoved(pod) => (Some(pod), None),
            _ => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_of_a_node_stays_is_told() {
        let node = |size: &str, cpu: &str, taint: &str| {
            let spec = json!({"taints": [{"key": taint, "effect": "NoSchedule"}]});
            let node = json!({"metadata": {"name": "n", "labels": {"size": size}}, "spec": spec, "status": {"allocatable": {"cpu": cpu}}});
            Arc::new(serde_json::from_value::<Node>(node).expect("a node"))
        };
        let before = node("1", "2", "a");
        for (after, labels, allocatable) in
            [(node("1", "2", "b"), true, true), (node("2", "2", "a"), false, true), (node("1", "3", "a"), true, false)]
        {
            let change = ClusterChange::NodeUpdated { old: before.clone(), new: after };
            assert_eq!((change.leaves_labels(), change.leaves_allocatable()), (labels, allocatable), "{change:?}");
        }
        let added = ClusterChange::NodeAdded(before);
        assert!(!added.leaves_labels() && !added.leaves_allocatable());
    }
}

//! What changed in the cluster, for deciding which unschedulable pods to try again.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::Node, resource::v1::ResourceClaim};

use crate::scheduler::placed_pod::PlacedPod;

/// A change. Pods here are such that have a node.
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
    /// A slice or a class of devices is there or is another one.
    DevicesChanged,
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
        }
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

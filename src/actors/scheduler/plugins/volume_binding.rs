//! VolumeBinding: a pod runs where its volumes are, or where they can be bound or made.

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    node_info::{NodeInfo, PodInfo},
    volumes::{PodVolumes, StorageCaches, choose::has_claims},
};

/// See the module.
pub struct VolumeBinding {
    pub storage: StorageCaches,
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if !has_claims(&pod.pod) {
            return Ok(());
        }
        let volumes = PodVolumes::of(&pod.pod, &self.storage).map_err(Rejection::unresolvable)?;
        let refused = |reasons: Vec<&'static str>| Rejection { reasons: reasons.into_iter().map(Into::into).collect(), unresolvable: true };
        volumes.on_node(&node.node).map(drop).map_err(refused)
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::NodeAdded | ClusterChange::NodeUpdated | ClusterChange::StorageChanged)
    }
}

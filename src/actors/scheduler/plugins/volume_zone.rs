//! VolumeZone: a pod runs in the zone of its volumes, where their labels tell one.

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    node_info::{NodeInfo, PodInfo},
    volumes::{
        PodVolumes, StorageCaches,
        choose::{ZONE_CONFLICT, has_claims},
    },
};

/// See the module.
pub struct VolumeZone {
    pub storage: StorageCaches,
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if !has_claims(&pod.pod) {
            return Ok(());
        }
        // What keeps its claims from being looked up VolumeBinding says.
        let Ok(volumes) = PodVolumes::of(&pod.pod, &self.storage) else { return Ok(()) };
        if volumes.are_in_zone(&node.node) { Ok(()) } else { Err(Rejection::unresolvable(ZONE_CONFLICT)) }
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::NodeAdded | ClusterChange::NodeUpdated | ClusterChange::StorageChanged)
    }
}

//! VolumeZone: a pod runs in the zone of its volumes, where their labels tell one.

use crate::scheduler::{
    framework::{ClusterChange, Event, Plugin, Point, PreFilter, Rejection},
    pod_info::PodInfo,
    snapshot::Snapshot,
    volumes::{
        PodVolumes, StorageCaches,
        choose::{ZONE_CONFLICT, has_claims},
    },
};

/// See the module.
pub struct VolumeZone {
    pub storage: StorageCaches,
}

impl VolumeZone {
    pub const POINTS: &[Point] = &[Point::PreFilter, Point::Filter];
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn points(&self) -> &'static [Point] {
        Self::POINTS
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        if !has_claims(&pod.pod) {
            return PreFilter::Skip;
        }
        // What keeps its claims from being looked up VolumeBinding says.
        let Ok(volumes) = PodVolumes::of(&pod.pod, &self.storage) else { return PreFilter::Skip };
        PreFilter::by_node_alone(move |node| if volumes.are_in_zone(&node.node) { Ok(()) } else { Err(Rejection::unresolvable(ZONE_CONFLICT)) })
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::StorageChanged]
    }

    fn may_help(&self, _pod: &PodInfo, change: &ClusterChange) -> bool {
        !change.leaves_labels()
    }
}

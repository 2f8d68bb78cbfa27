//! VolumeBinding: a pod runs where its volumes are, or where they can be bound or made.

use crate::scheduler::{
    framework::{Event, Plugin, PreFilter, Rejection},
    pod_info::PodInfo,
    snapshot::Snapshot,
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

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        if !has_claims(&pod.pod) {
            return PreFilter::Skip;
        }
        let volumes = match PodVolumes::of(&pod.pod, &self.storage) {
            Ok(volumes) => volumes,
            Err(why) => return PreFilter::Reject(Rejection::unresolvable(why)),
        };
        let refused = |reasons: Vec<&'static str>| Rejection { reasons: reasons.into_iter().map(Into::into).collect(), unresolvable: true };
        PreFilter::by_node(move |node| volumes.on_node(&node.node).map(drop).map_err(refused))
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::StorageChanged]
    }
}

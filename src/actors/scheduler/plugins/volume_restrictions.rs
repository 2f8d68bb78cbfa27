//! VolumeRestrictions: a claim that one pod alone may use is used by one pod alone.

use troupe_api::meta::ObjectKey;

use crate::scheduler::{
    framework::{Event, Plugin, PreFilter, Rejection},
    intake::place_of,
    pod_info::PodInfo,
    snapshot::Snapshot,
    volumes::{
        StorageCaches,
        choose::{IN_USE, has_claims, is_in_use},
    },
};

/// See the module.
pub struct VolumeRestrictions {
    pub storage: StorageCaches,
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        let is_placed = |user: &ObjectKey| self.storage.pods.get(user).is_some_and(|user| place_of(&user.object).is_some());
        if !has_claims(&pod.pod) || !is_in_use(&pod.pod, &self.storage, is_placed) {
            return PreFilter::Skip;
        }
        PreFilter::by_node(|_| Err(Rejection::resolvable(IN_USE)))
    }

    fn events(&self) -> &'static [Event] {
        &[Event::PodRemoved, Event::StorageChanged]
    }
}

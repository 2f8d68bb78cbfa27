//! VolumeRestrictions: a claim that one pod alone may use is used by one pod alone.

use troupe_api::meta::ObjectKey;

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    intake::place_of,
    node_info::{NodeInfo, PodInfo},
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

    fn filter(&self, pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        let is_placed = |user: &ObjectKey| self.storage.pods.get(user).is_some_and(|user| place_of(&user.object).is_some());
        if has_claims(&pod.pod) && is_in_use(&pod.pod, &self.storage, is_placed) {
            return Err(Rejection::resolvable(IN_USE));
        }
        Ok(())
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::PodRemoved | ClusterChange::StorageChanged)
    }
}

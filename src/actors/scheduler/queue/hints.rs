//! Whether a change may help a pod that waits for one (KEP-4247, queueing hints).

use troupe_api::meta::ObjectKey;

use crate::scheduler::{
    framework::{ClusterChange, Profiles},
    pod_info::PodInfo,
};

/// Whom to ask whether a change may help a pod.
pub struct HintContext<'a> {
    pub profiles: &'a Profiles,
    /// The pod as it is now; `None` if it is gone, or so large that it is tried rather than looked at after each change.
    pub pod: &'a dyn Fn(&ObjectKey) -> Option<PodInfo>,
    /// The same however large it is: one that must not be looked at is not tried to find that out.
    pub whole: &'a dyn Fn(&ObjectKey) -> Option<PodInfo>,
}

/// Stands for the plugins of a pod that none rejected, as where there are no nodes: every change may help it.
pub(super) const NOBODY: &str = "";

/// Stands for extenders that rejected nodes: nobody knows which changes may help them, so each may.
pub const EXTENDER: &str = "Extender";

/// What a pod is found by among those that wait for changes.
pub(super) fn names(rejected_by: &[&'static str]) -> Vec<&'static str> {
    if rejected_by.is_empty() { vec![NOBODY] } else { rejected_by.to_vec() }
}

/// Whether a change may help a pod that these plugins rejected.
pub(super) fn is_woken(rejected_by: &[&'static str], change: &ClusterChange, key: &ObjectKey, with: &HintContext<'_>) -> bool {
    rejected_by.is_empty() || rejected_by.contains(&EXTENDER) || with.profiles.may_help(rejected_by, change, || (with.pod)(key))
}

/// Whether no plugin of its profile keeps a pod from being looked at. One that cannot be seen is tried.
pub(super) fn may_be_looked_at(key: &ObjectKey, with: &HintContext<'_>) -> bool {
    let Some(info) = (with.pod)(key) else { return true };
    with.profiles.of(&info.pod).is_none_or(|profile| profile.pre_enqueue(&info.pod).is_ok())
}

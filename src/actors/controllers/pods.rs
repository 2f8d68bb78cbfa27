//! What controllers ask about pods: active, ready, available, and which to delete first.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use troupe_api::meta::time::passed;

pub use crate::pod_phase::{is_finished, phase};
use crate::runtime::cache::Cache;

/// The index of pods by their node's name; those without a node lie under "".
pub const BY_NODE: &str = "node";

/// Adds [`BY_NODE`].
pub fn index_by_node(pods: Cache<Pod>) -> Cache<Pod> {
    pods.add_index(BY_NODE, |pod| vec![Arc::from(node_of(pod).unwrap_or_default())]);
    pods
}

/// The node that the pod is bound to.
pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Its Ready condition, whatever it says.
pub fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

/// Its Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = ready_condition(pod).filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    let wanted = span(min_ready_seconds);
    min_ready_seconds == 0 || ready_since(pod).is_some_and(|since| passed(since, now, wanted) >= wanted)
}

fn span(seconds: i32) -> Duration {
    Duration::from_secs(seconds.max(0).unsigned_abs().into())
}

/// When the first ready pod that is not available yet becomes so.
pub fn next_available<'a>(pods: impl IntoIterator<Item = &'a Pod>, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds == 0 {
        return None;
    }
    let waiting = pods.into_iter().filter(|pod| is_ready(pod) && !is_available(pod, min_ready_seconds, now));
    let wanted = span(min_ready_seconds);
    let left = waiting.filter_map(|pod| Some(wanted.saturating_sub(passed(ready_since(pod)?, now, wanted))));
    left.min().map(|left| left.max(Duration::from_secs(1)))
}

/// Being deleted, and not finished yet.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && !is_finished(pod)
}

/// Orders pods for deletion, first to go first (`controller.ActivePodsWithRanks`): unassigned, then pending, then
/// unready, then by `pod-deletion-cost`, then ready for the shorter time, restarted more often, younger.
pub fn rank_for_deletion(pod: &Pod, now: Timestamp) -> (bool, u8, bool, i64, i64, i64, i64) {
    let assigned = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    let phase = match phase(pod) {
        "Pending" => 0,
        "" | "Unknown" => 1,
        _ => 2,
    };
    let cost = pod.metadata.annotations.as_ref().and_then(|a| a.get("controller.kubernetes.io/pod-deletion-cost")).and_then(|text| text.parse().ok());
    let age = |since: Option<Timestamp>| since.map_or(0, |since| now.duration_since(since).as_secs());
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let restarts: i64 = statuses.map(|status| i64::from(status.restart_count)).max().unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (assigned, phase, is_ready(pod), cost.unwrap_or(0), age(ready_since(pod)), -restarts, age(created))
}

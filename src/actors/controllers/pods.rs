//! What controllers ask about pods: active, ready, available, and which to delete first.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use troupe_api::meta::time::passed;

pub use crate::pod_phase::{is_finished, phase};
use crate::runtime::cache::Cache;

/// The index of pods by their node's name; those without a node lie under "".
pub const BY_NODE: &str = "node";

/// The field by which an affinity names nodes.
pub const NODE_NAME_FIELD: &str = "metadata.name";
/// An annotation: pods that cost less go first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

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

/// The node that the pod runs on, or is made for: the only one that its affinity names.
pub fn target_node(pod: &Pod) -> Option<&str> {
    node_of(pod).or_else(|| pinned_to(pod))
}

fn pinned_to(pod: &Pod) -> Option<&str> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let pinned = fields.find(|field| field.key == NODE_NAME_FIELD && field.operator == "In")?;
    match pinned.values.as_deref() {
        Some([node]) => Some(node),
        _ => None,
    }
}

/// Where a pod stands: what controllers count pods by, and put them in order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodStanding {
    /// `status.phase`, or "". One that Kubernetes does not know counts as Unknown.
    pub phase: &'static str,
    /// Bound to a node.
    pub is_assigned: bool,
    /// Told to go.
    pub is_deleted: bool,
    /// See [`is_ready`].
    pub is_ready: bool,
    ready_since: Option<Timestamp>,
    pub created: Option<Timestamp>,
    deletion_cost: i64,
    /// Of the container that restarted most often.
    restarts: i32,
}

impl PodStanding {
    pub fn of(pod: &Pod) -> Self {
        let (metadata, is_ready) = (&pod.metadata, is_ready(pod));
        let ready_since = ready_condition(pod).filter(|_| is_ready).and_then(|condition| condition.last_transition_time.as_ref());
        let cost = metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        PodStanding {
            phase: known_phase(phase(pod)),
            is_assigned: node_of(pod).is_some(),
            is_deleted: metadata.deletion_timestamp.is_some(),
            is_ready,
            ready_since: ready_since.map(|time| time.0),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            deletion_cost: cost.and_then(|text| text.parse().ok()).unwrap_or(0),
            restarts: statuses.map(|status| status.restart_count).max().unwrap_or(0),
        }
    }

    /// Succeeded or failed: ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, "Succeeded" | "Failed")
    }

    /// Neither finished nor being deleted.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && !self.is_deleted
    }

    /// Being deleted, and not finished yet.
    pub fn is_terminating(&self) -> bool {
        self.is_deleted && !self.is_finished()
    }

    /// Ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        let wanted = span(min_ready_seconds);
        let lasts = || self.ready_since.is_some_and(|since| passed(since, now, wanted) >= wanted);
        self.is_ready && (min_ready_seconds == 0 || lasts())
    }

    /// Orders pods for deletion, first to go first (`controller.ActivePodsWithRanks`): unassigned, then pending, then
    /// unready, then by `pod-deletion-cost`, then from the node with the most of their kind (`crowd`), ready for the shorter time,
    /// restarted more often, younger. Times count by their order of magnitude.
    pub fn rank_for_deletion(&self, crowd: usize, now: Timestamp) -> (bool, u8, bool, i64, Reverse<usize>, i64, i64, i64) {
        let phase = match self.phase {
            "Pending" => 0,
            "" | "Unknown" => 1,
            _ => 2,
        };
        let age = |since: Option<Timestamp>| since.map_or(-2, |since| magnitude(now.duration_since(since)));
        let restarts = -i64::from(self.restarts);
        (self.is_assigned, phase, self.is_ready, self.deletion_cost, Reverse(crowd), age(self.ready_since), restarts, age(self.created))
    }
}

/// The binary logarithm of a time in nanoseconds, rounded down; -1 where there is none.
fn magnitude(time: SignedDuration) -> i64 {
    u128::try_from(time.as_nanos()).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
}

fn known_phase(phase: &str) -> &'static str {
    let known = ["", "Pending", "Running", "Succeeded", "Failed"];
    known.into_iter().find(|known| *known == phase).unwrap_or("Unknown")
}

fn span(seconds: i32) -> Duration {
    Duration::from_secs(seconds.max(0).unsigned_abs().into())
}

/// When the first ready pod that is not available yet becomes so.
pub fn next_available(pods: impl IntoIterator<Item = PodStanding>, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds == 0 {
        return None;
    }
    let waiting = pods.into_iter().filter(|pod| pod.is_ready && !pod.is_available(min_ready_seconds, now));
    let wanted = span(min_ready_seconds);
    let left = waiting.filter_map(|pod| Some(wanted.saturating_sub(passed(pod.ready_since?, now, wanted))));
    left.min().map(|left| left.max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value, spec: Value, status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).expect("a pod")
    }

    fn ready(since: &str) -> Value {
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]})
    }

    #[test]
    fn pods_go_in_upstreams_order() {
        let now = "2026-01-01T01:00:00Z".parse().expect("a time");
        let on_node = || json!({"nodeName": "a", "containers": []});
        let made = |time: &str| json!({"creationTimestamp": time});
        let since = "2026-01-01T00:30:00Z";
        let restarted = json!({"phase": "Running", "conditions": ready(since)["conditions"],
            "containerStatuses": [{"name": "c", "restartCount": 3, "image": "", "imageID": "", "ready": true}]});
        let cost = |cost: &str| json!({"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}, "creationTimestamp": since});
        let in_order = [
            pod(made(since), json!({"containers": []}), json!({"phase": "Pending"})),
            pod(made(since), on_node(), json!({"phase": "Pending"})),
            pod(made(since), on_node(), json!({"phase": "Unknown"})),
            pod(made(since), on_node(), json!({"phase": "Running"})),
            pod(cost("-5"), on_node(), ready("2026-01-01T00:00:00Z")),
            pod(made(since), on_node(), ready("2026-01-01T00:50:00Z")),
            pod(made(since), on_node(), restarted),
            pod(made("2026-01-01T00:20:00Z"), on_node(), ready(since)),
            pod(cost("7"), on_node(), ready("2026-01-01T00:59:00Z")),
        ];
        let ranks: Vec<_> = in_order.iter().map(|pod| PodStanding::of(pod).rank_for_deletion(0, now)).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert!(ranks.windows(2).all(|pair| pair[0] != pair[1]), "{ranks:?}");
        // A crowd weighs more than age and less than cost.
        let rank = |pod: usize, crowd| PodStanding::of(&in_order[pod]).rank_for_deletion(crowd, now);
        assert!(rank(7, 2) < rank(5, 1) && rank(4, 1) < rank(7, 2));
        // Half a minute is much at the beginning and little later.
        let ready_for = |seconds: i64| magnitude(SignedDuration::from_secs(seconds));
        assert!(ready_for(1) < ready_for(30) && ready_for(1800) == ready_for(1830) && ready_for(0) == -1);
    }

    #[test]
    fn a_pod_stands_where_its_status_says() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let standing = PodStanding::of(&pod(json!({}), json!({"containers": []}), ready("2026-01-01T00:00:00Z")));
        assert!(standing.is_active() && !standing.is_terminating() && !standing.is_assigned);
        assert!(standing.is_available(0, at("2026-01-01T00:00:00Z")) && !standing.is_available(10, at("2026-01-01T00:00:09Z")));
        assert!(standing.is_available(10, at("2026-01-01T00:00:10Z")));
        assert_eq!(next_available([standing], 10, at("2026-01-01T00:00:04Z")), Some(Duration::from_secs(6)));
        let leaving = |phase: &str| PodStanding::of(&pod(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), json!(null), json!({"phase": phase})));
        assert!(leaving("Running").is_terminating() && !leaving("Failed").is_terminating() && leaving("Failed").is_finished());
        assert_eq!(leaving("Odd").phase, "Unknown");
    }

    #[test]
    fn a_pod_is_made_for_the_only_node_that_its_affinity_names() {
        let pinned = |nodes: &[&str], bound: Option<&str>| {
            let field = json!({"key": "metadata.name", "operator": "In", "values": nodes});
            let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
            let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
            let pod = pod(json!({}), json!({"containers": [], "affinity": affinity, "nodeName": bound}), json!(null));
            target_node(&pod).map(str::to_owned)
        };
        assert_eq!(pinned(&["a"], None).as_deref(), Some("a"));
        assert_eq!(pinned(&["a"], Some("b")).as_deref(), Some("b"));
        assert_eq!(pinned(&["a", "b"], None), None);
    }
}

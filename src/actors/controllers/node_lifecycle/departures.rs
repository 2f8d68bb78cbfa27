//! Which pods leave a node with NoExecute taints, and when. Pure.
//!
//! The time that a toleration grants runs from when this controller saw the pod and the taint together, as upstream: what
//! happened while no controller ran counts for nobody. Once it runs, other taints and tolerations that grant time do not
//! change when the pod leaves; those that grant none, or any amount, do. Pods that are going already are no exception: it is told why, too.
//! A pod is told to go once, and again only when the node's taints become others.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use troupe_api::projection::MetaProjection;

use crate::{
    runtime::cache::Digest,
    scheduler::tolerations::{compares, tolerates},
};

/// What of a pod says how long it bears a node's taints.
#[derive(Debug)]
pub struct Bearing {
    pub meta: Arc<MetaProjection>,
    tolerations: Box<[Toleration]>,
}

impl Digest<Pod> for Bearing {
    fn of(meta: &Arc<MetaProjection>, pod: &Pod) -> Self {
        let all = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
        let of_effect = |wanted: &Toleration| wanted.effect.as_deref().is_none_or(|effect| matches!(effect, "" | "NoExecute"));
        Bearing { meta: meta.clone(), tolerations: all.filter(|toleration| of_effect(toleration)).cloned().collect() }
    }
}

/// Longer tolerations are held for this, so that every departure has an instant: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How long a pod stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Forever,
    For(Duration),
    /// There is a taint that it does not tolerate.
    NoLonger,
}

/// What pods of a node have to bear.
#[derive(Clone, Copy, Debug)]
pub struct Taints<'a> {
    pub of_node: &'a [Taint],
    /// Tolerations may compare their values (the feature `TaintTolerationComparisonOperators`).
    pub compared: bool,
}

fn evicting(taints: &[Taint]) -> impl Iterator<Item = &Taint> {
    taints.iter().filter(|taint| taint.effect == "NoExecute")
}

/// How long pods with these tolerations bear these taints. Of each taint the first toleration that matches is used, for ever
/// where it names no time, and the shortest time of those counts.
fn stay(tolerations: &[Toleration], taints: Taints<'_>) -> Stay {
    let mut shortest: Option<Duration> = None;
    for taint in evicting(taints.of_node) {
        let counts = |toleration: &&Toleration| (taints.compared || !compares(toleration)) && tolerates(toleration, taint);
        let Some(used) = tolerations.iter().find(counts) else { return Stay::NoLonger };
        let limit = used.toleration_seconds.map(|seconds| Duration::from_secs(seconds.max(0).unsigned_abs()).min(LONGEST));
        shortest = match (shortest, limit) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    shortest.map_or(Stay::Forever, Stay::For)
}

/// What was planned for a pod.
#[derive(Clone, Debug)]
struct Planned {
    pod: Arc<Bearing>,
    /// `None` once it was told to go.
    due: Option<Instant>,
}

/// What was planned for the pods of a node, by UID, and for which taints.
#[derive(Clone, Debug, Default)]
pub struct Leaving {
    taints: Vec<Taint>,
    pods: HashMap<Arc<str>, Planned>,
}

impl Leaving {
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// A pod was told to go.
    pub fn note_told(&mut self, uid: &str) {
        if let Some(planned) = self.pods.get_mut(uid) {
            planned.due = None;
        }
    }
}

/// What becomes of a node's pods.
#[derive(Debug, Default)]
pub struct Departures {
    pub leave: Vec<Arc<Bearing>>,
    /// They do not leave when they would have: they stay, leave at once, or are gone before.
    pub cancelled: Vec<Arc<Bearing>>,
    pub leaving: Leaving,
    /// When the next one leaves.
    pub next: Option<Duration>,
}

/// Plans for the pods of a node with these taints.
pub fn plan(pods: &[Arc<Bearing>], taints: Taints<'_>, before: &Leaving, now: Instant) -> Departures {
    let mut plan = Departures::default();
    plan.leaving.taints = evicting(taints.of_node).cloned().collect();
    for pod in pods {
        let planned = before.pods.get(&pod.meta.uid);
        if let Some(told) = planned.filter(|planned| planned.due.is_none() && before.taints == plan.leaving.taints) {
            plan.leaving.pods.insert(pod.meta.uid.clone(), told.clone());
            continue;
        }
        let known = planned.and_then(|planned| planned.due);
        let due = match stay(&pod.tolerations, taints) {
            Stay::For(limit) => known.unwrap_or(now + limit),
            Stay::NoLonger => {
                plan.cancelled.extend(known.filter(|due| *due > now).map(|_| pod.clone()));
                now
            }
            Stay::Forever => {
                plan.cancelled.extend(known.map(|_| pod.clone()));
                continue;
            }
        };
        match due.saturating_duration_since(now) {
            Duration::ZERO => plan.leave.push(pod.clone()),
            left => plan.next = Some(plan.next.map_or(left, |next| next.min(left))),
        }
        plan.leaving.pods.insert(pod.meta.uid.clone(), Planned { pod: pod.clone(), due: Some(due) });
    }
    let here: HashSet<&Arc<str>> = pods.iter().map(|pod| &pod.meta.uid).collect();
    let gone = before.pods.iter().filter(|(uid, planned)| !here.contains(uid) && planned.due.is_some_and(|due| due > now));
    plan.cancelled.extend(gone.map(|(_, planned)| planned.pod.clone()));
    plan
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::{Bearing, Departures, Duration, Instant, Leaving, Pod, Taint, Taints};
    use crate::runtime::cache::digest_of;

    fn pod(tolerations: Value) -> Arc<Bearing> {
        let object = json!({"metadata": {"uid": "u"}, "spec": {"containers": [], "tolerations": tolerations}});
        digest_of(&serde_json::from_value::<Pod>(object).expect("a pod"))
    }

    fn taints(keys: &[&str]) -> Vec<Taint> {
        keys.iter().map(|key| Taint { key: (*key).into(), effect: "NoExecute".into(), ..Taint::default() }).collect()
    }

    /// A plan where nothing is compared.
    fn plan(pods: &[Arc<Bearing>], taints: &[Taint], before: &Leaving, now: Instant) -> Departures {
        super::plan(pods, Taints { of_node: taints, compared: false }, before, now)
    }

    fn bears(key: &str, seconds: u32) -> Value {
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})
    }

    #[test]
    fn a_pod_leaves_when_its_toleration_runs_out() {
        let (start, one) = (Instant::now(), taints(&["a"]));
        let intolerant = plan(&[pod(json!([]))], &one, &Leaving::default(), start);
        assert_eq!(intolerant.leave.len(), 1);
        let pods = [pod(json!([bears("a", 300)]))];
        let first = plan(&pods, &one, &Leaving::default(), start);
        assert_eq!((first.leave.len(), first.next), (0, Some(Duration::from_secs(300))));
        let later = plan(&pods, &one, &first.leaving, start + Duration::from_secs(100));
        assert_eq!((later.leave.len(), later.next), (0, Some(Duration::from_secs(200))));
        assert_eq!(plan(&pods, &one, &later.leaving, start + Duration::from_secs(300)).leave.len(), 1);
        let tolerant = plan(&[pod(json!([{"operator": "Exists"}]))], &one, &Leaving::default(), start);
        assert!(tolerant.leave.is_empty() && tolerant.next.is_none());
        let patient = json!([{"operator": "Exists", "tolerationSeconds": i64::MAX, "effect": "NoExecute"}]);
        assert_eq!(plan(&[pod(patient)], &one, &Leaving::default(), start).next, Some(super::LONGEST));
    }

    #[test]
    fn tolerations_that_compare_count_where_they_may() {
        let pods = [pod(json!([{"key": "sla", "operator": "Lt", "value": "100", "effect": "NoExecute"}]))];
        let leave = |value: &str, compared: bool| {
            let taint = Taint { value: Some(value.into()), ..taints(&["sla"])[0].clone() };
            super::plan(&pods, Taints { of_node: &[taint], compared }, &Leaving::default(), Instant::now()).leave.len()
        };
        assert_eq!((leave("99", true), leave("100", true), leave("99", false)), (0, 1, 1));
    }

    #[test]
    fn tolerations_of_other_effects_are_not_kept() {
        let closed = json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"});
        let pod = pod(json!([closed, bears("b", 20), {"operator": "Exists"}]));
        let kept: Vec<_> = pod.tolerations.iter().map(|toleration| toleration.key.as_deref()).collect();
        assert_eq!(kept, [Some("b"), None]);
    }

    #[test]
    fn the_shortest_toleration_counts_and_one_taint_too_many_is_one_too_many() {
        let start = Instant::now();
        let pods = [pod(json!([bears("a", 300), bears("b", 20)]))];
        assert_eq!(plan(&pods, &taints(&["a", "b"]), &Leaving::default(), start).next, Some(Duration::from_secs(20)));
        assert_eq!(plan(&pods, &taints(&["a", "c"]), &Leaving::default(), start).leave.len(), 1);
    }

    #[test]
    fn of_several_tolerations_of_a_taint_the_first_counts() {
        let next = |tolerations: Value| plan(&[pod(tolerations)], &taints(&["a"]), &Leaving::default(), Instant::now()).next;
        let for_ever = json!({"operator": "Exists"});
        assert_eq!(next(json!([for_ever, bears("a", 20)])), None);
        assert_eq!(next(json!([bears("a", 20), for_ever])), Some(Duration::from_secs(20)));
        assert_eq!(next(json!([bears("a", 300), bears("a", 20)])), Some(Duration::from_secs(300)));
        assert_eq!(next(json!([bears("b", 5), bears("a", 300)])), Some(Duration::from_secs(300)));
    }

    #[test]
    fn a_pod_whose_taint_goes_in_time_is_spared_and_starts_anew_next_time() {
        let (start, pods) = (Instant::now(), [pod(json!([bears("a", 30)]))]);
        let going = plan(&pods, &taints(&["a"]), &Leaving::default(), start);
        let spared = plan(&pods, &[], &going.leaving, start + Duration::from_secs(20));
        assert_eq!((spared.cancelled.len(), spared.leaving.pods.len()), (1, 0));
        let again = plan(&pods, &taints(&["a"]), &spared.leaving, start + Duration::from_secs(40));
        assert_eq!(again.next, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_pod_that_is_to_leave_leaves_then_whatever_other_taints_grant() {
        let start = Instant::now();
        let pods = [pod(json!([bears("a", 30), bears("b", 3), bears("c", 300)]))];
        let going = plan(&pods, &taints(&["a"]), &Leaving::default(), start);
        for others in [&["a", "b"][..], &["b"], &["c"]] {
            let later = plan(&pods, &taints(others), &going.leaving, start + Duration::from_secs(10));
            assert_eq!((later.leave.len(), later.cancelled.len(), later.next), (0, 0, Some(Duration::from_secs(20))), "{others:?}");
        }
        assert_eq!(plan(&pods, &taints(&["c"]), &going.leaving, start + Duration::from_secs(30)).leave.len(), 1);
    }

    #[test]
    fn a_pod_that_is_going_already_is_told_to_go_like_any_other() {
        let object = json!({"metadata": {"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": []}});
        let going = digest_of(&serde_json::from_value::<Pod>(object).expect("a pod"));
        assert_eq!(plan(&[going], &taints(&["a"]), &Leaving::default(), Instant::now()).leave.len(), 1);
    }

    #[test]
    fn a_pod_is_told_to_go_once_and_again_when_the_taints_are_others() {
        let (start, pods) = (Instant::now(), [pod(json!([bears("b", 30)]))]);
        let mut first = plan(&pods, &taints(&["a"]), &Leaving::default(), start);
        assert_eq!(first.leave.len(), 1);
        assert_eq!(plan(&pods, &taints(&["a"]), &first.leaving, start).leave.len(), 1, "nobody told it yet");
        first.leaving.note_told("u");
        let second = plan(&pods, &taints(&["a"]), &first.leaving, start);
        assert_eq!((second.leave.len(), second.next), (0, None));
        let again = plan(&pods, &taints(&["a", "b"]), &second.leaving, start);
        assert_eq!((again.leave.len(), again.cancelled.len()), (1, 0));
        // One that it bears for a while starts that while.
        assert_eq!(plan(&pods, &taints(&["b"]), &second.leaving, start).next, Some(Duration::from_secs(30)));
        let spared = plan(&pods, &[], &second.leaving, start);
        assert_eq!((spared.leave.len(), spared.cancelled.len(), spared.leaving.is_empty()), (0, 0, true));
    }

    #[test]
    fn a_pod_that_is_gone_before_it_was_to_leave_is_not_waited_for_any_more() {
        let (start, pods) = (Instant::now(), [pod(json!([bears("a", 30)]))]);
        let mut going = plan(&pods, &taints(&["a"]), &Leaving::default(), start).leaving;
        let gone = plan(&[], &taints(&["a"]), &going, start);
        assert_eq!((gone.cancelled.len(), gone.leaving.is_empty()), (1, true));
        going.note_told("u");
        assert_eq!(plan(&[], &taints(&["a"]), &going, start).cancelled.len(), 0, "it went as it was told");
    }

    #[test]
    fn a_pod_that_is_to_leave_leaves_at_once_for_a_taint_that_it_does_not_tolerate() {
        let (start, pods) = (Instant::now(), [pod(json!([bears("a", 30)]))]);
        let going = plan(&pods, &taints(&["a"]), &Leaving::default(), start);
        let later = plan(&pods, &taints(&["a", "b"]), &going.leaving, start + Duration::from_secs(10));
        assert_eq!((later.leave.len(), later.cancelled.len()), (1, 1));
        let first = plan(&pods, &taints(&["b"]), &Leaving::default(), start);
        assert_eq!((first.leave.len(), first.cancelled.len()), (1, 0), "there was nothing to cancel");
    }
}

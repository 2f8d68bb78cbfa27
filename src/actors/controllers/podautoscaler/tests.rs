//! Sizes that follow from metrics, with the figures of upstream's documentation.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerStatus},
    core::v1::Pod,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;

use super::{
    ambiguous,
    behavior::{Past, Request},
    measure::{Failure, Found, Outcome},
    options::Starting,
    plan::{self, Plan, Rescale, Way},
    pod::ScaledPod,
    replicas::{Measured, PodMetric, PodMetrics, Proposal, Tolerances, by_average, by_utilization, by_value, by_value_per_pod},
    zero,
};
use crate::runtime::cache::digest_of;

const TENTH: Tolerances = Tolerances { down: 0.1, up: 0.1 };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

/// Ready since their start 1,000 seconds ago, each requesting one core.
fn pod(index: usize, change: impl Fn(&mut Value)) -> Arc<ScaledPod> {
    let (start, name) = (at(-1000).to_string(), format!("p{index}"));
    let mut tree = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Running", "startTime": start, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": start}]},
    });
    change(&mut tree);
    digest_of(&serde_json::from_value::<Pod>(tree).expect("a pod"))
}

fn pods(count: usize) -> Vec<Arc<ScaledPod>> {
    (0..count).map(|index| pod(index, |_| ())).collect()
}

fn metrics(values: &[i64]) -> PodMetrics {
    let metric = |value| PodMetric { timestamp: at(0), window: SignedDuration::from_secs(15), value };
    values.iter().enumerate().map(|(index, value)| (format!("p{index}"), metric(*value))).collect()
}

fn measured<'a>(pods: &'a [Arc<ScaledPod>], values: &[i64], current: i32) -> Measured<'a> {
    Measured { pods, metrics: metrics(values), current, tolerances: TENTH, starting: Starting::default(), now: at(0) }
}

fn utilization(pods: &[Arc<ScaledPod>], values: &[i64], current: i32, target: i32) -> Result<Proposal, String> {
    by_utilization(measured(pods, values, current), target, "cpu", "")
}

#[test]
fn for_how_long_pods_start_can_be_chosen() {
    // Measured before it was ready, 1,000 seconds after its start.
    let late = |index| pod(index, |tree| tree["status"]["conditions"][0]["lastTransitionTime"] = at(-1).to_string().into());
    let all = [pod(0, |_| ()), late(1)];
    let with = |starting| by_utilization(Measured { starting, ..measured(&all, &[400, 900], 2) }, 50, "cpu", "").map(|proposal| proposal.replicas);
    assert_eq!(with(Starting::default()), Ok(3), "both count");
    let patient = Starting { cpu_initialization: SignedDuration::from_secs(2000), ..Starting::default() };
    assert_eq!(with(patient), Ok(1), "only the first one counts");
}

#[test]
fn replicas_follow_the_ratio_of_use_and_target() {
    let three = pods(3);
    assert_eq!(utilization(&three, &[900, 900, 900], 3, 30), Ok(Proposal { replicas: 9, utilization: Some(90), usage: 900 }));
    assert_eq!(utilization(&three, &[100, 100, 100], 3, 50), Ok(Proposal { replicas: 1, utilization: Some(10), usage: 100 }));
    assert_eq!(utilization(&three, &[540, 540, 540], 3, 50).map(|proposal| proposal.replicas), Ok(3), "within the tolerance");
    assert_eq!(by_average(measured(&three, &[20_000, 10_000, 30_000], 3), 15_000, "").map(|proposal| proposal.replicas), Ok(4));
}

#[test]
fn what_is_not_measured_is_assumed_to_work_against_the_change() {
    let three = pods(3);
    // 800 % of one pod would ask for more; two unmeasured ones count as idle.
    assert_eq!(utilization(&three, &[900], 3, 50).map(|proposal| proposal.replicas), Ok(3));
    // One idle pod would ask for less; the others count as busy.
    assert_eq!(utilization(&three, &[100], 3, 50).map(|proposal| proposal.replicas), Ok(3));
    assert_eq!(utilization(&three, &[], 3, 50), Err("did not receive metrics for targeted pods (pods might be unready)".into()));
    assert_eq!(utilization(&[], &[100], 3, 50), Err("no pods returned by selector while calculating replica count".into()));
}

#[test]
fn pods_that_just_started_do_not_count_for_cpu() {
    let starting = |tree: &mut Value| {
        tree["status"]["startTime"] = json!(at(-20).to_string());
        tree["status"]["conditions"][0] = json!({"type": "Ready", "status": "False", "lastTransitionTime": at(-20).to_string()});
    };
    let some = [pod(0, |_| ()), pod(1, starting), pod(2, starting)];
    assert_eq!(utilization(&some, &[1500, 9000, 9000], 3, 50).map(|proposal| proposal.replicas), Ok(3), "idle until they are ready");
    assert_eq!(utilization(&some, &[2700, 9000, 9000], 3, 50).map(|proposal| proposal.replicas), Ok(6));
    let memory = by_average(measured(&some, &[1000, 1000, 1000], 3), 500, "memory");
    assert_eq!(memory.map(|proposal| proposal.replicas), Ok(6), "memory is believed from the start on");
}

#[test]
fn a_pod_without_a_request_has_no_utilization() {
    let without = |tree: &mut Value| tree["spec"]["containers"][0]["resources"] = json!({});
    let found = utilization(&[pod(0, without)], &[500], 1, 50);
    assert_eq!(found, Err("missing request for cpu in container c of Pod p0".into()));
    let other = by_utilization(measured(&pods(1), &[500], 1), 50, "cpu", "x");
    assert_eq!(other, Err("container x not found in Pod p0".into()));
    let whole = |tree: &mut Value| tree["spec"]["resources"] = json!({"requests": {"cpu": "2"}});
    assert_eq!(utilization(&[pod(0, whole)], &[1000], 1, 50).map(|proposal| proposal.utilization), Ok(Some(50)), "the pod's own request");
}

#[test]
fn metrics_of_the_whole_target_count_ready_pods() {
    let three = pods(3);
    assert_eq!(by_value(&measured(&three, &[], 3), 20_000, 10_000).map(|proposal| proposal.replicas), Ok(6));
    assert_eq!(by_value(&measured(&three, &[], 0), 25_000, 10_000).map(|proposal| proposal.replicas), Ok(3), "from zero");
    assert_eq!(by_value_per_pod(90_000, 10_000, 3, TENTH), Proposal { replicas: 9, utilization: None, usage: 30_000 });
}

fn allowed(past: &mut Past, behavior: Option<&Value>, current: i32, desired: i32, second: i64) -> (i32, &'static str, &'static str) {
    let behavior = behavior.map(|behavior| serde_json::from_value::<HorizontalPodAutoscalerBehavior>(behavior.clone()).expect("a behavior"));
    let allowed = past.limit(Request { current, desired, min: 1, max: 100 }, behavior.as_ref(), at(second));
    (allowed.replicas, allowed.able.0, allowed.limited.0)
}

#[test]
fn without_a_behavior_growth_doubles_and_shrinking_waits_five_minutes() {
    let mut past = Past::default();
    past.begin(3, at(0));
    assert_eq!(allowed(&mut past, None, 3, 50, 0), (6, "ReadyForNewScale", "ScaleUpLimit"));
    assert_eq!(allowed(&mut past, None, 1, 50, 1), (4, "ReadyForNewScale", "ScaleUpLimit"));
    assert_eq!(allowed(&mut past, None, 50, 2, 15), (50, "ScaleDownStabilized", "DesiredWithinRange"));
    assert_eq!(allowed(&mut past, None, 50, 2, 302), (2, "ReadyForNewScale", "DesiredWithinRange"));
}

#[test]
fn shrinking_waits_for_as_long_as_is_said_for_all() {
    let mut past = Past::default();
    past.stabilizing(SignedDuration::from_secs(20));
    past.begin(50, at(0));
    assert_eq!(allowed(&mut past, None, 50, 2, 15), (50, "ScaleDownStabilized", "DesiredWithinRange"));
    assert_eq!(allowed(&mut past, None, 50, 2, 22), (2, "ReadyForNewScale", "DesiredWithinRange"));
    let mut own = Past::default();
    own.stabilizing(SignedDuration::from_secs(20));
    own.begin(50, at(0));
    let longer = json!({"scaleDown": {"stabilizationWindowSeconds": 60}});
    assert_eq!(allowed(&mut own, Some(&longer), 50, 2, 22).0, 50, "the autoscaler's own word counts");
}

#[test]
fn policies_limit_the_rate_of_their_period() {
    let up = json!({"scaleUp": {"selectPolicy": "Max", "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 100, "periodSeconds": 60}]},
        "scaleDown": {"selectPolicy": "Min", "stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}});
    let rules: HorizontalPodAutoscalerBehavior = serde_json::from_value(up.clone()).expect("a behavior");
    let mut past = Past::default();
    assert_eq!(allowed(&mut past, Some(&up), 10, 90, 0), (20, "ReadyForNewScale", "ScaleUpLimit"));
    past.scaled(Some(&rules), 10, 20, at(0));
    assert_eq!(allowed(&mut past, Some(&up), 20, 90, 30).0, 20, "the period's share is used up");
    assert_eq!(allowed(&mut past, Some(&up), 20, 90, 61).0, 40);
    assert_eq!(allowed(&mut past, Some(&up), 40, 10, 62), (38, "ReadyForNewScale", "ScaleDownLimit"));
    let never = json!({"scaleUp": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0, "policies": []}, "scaleDown": {}});
    assert_eq!(allowed(&mut Past::default(), Some(&never), 5, 9, 0).0, 5);
}

fn autoscaler(min: i32, max: i32) -> HorizontalPodAutoscaler {
    let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "minReplicas": min, "maxReplicas": max});
    serde_json::from_value(json!({"metadata": {"name": "h", "namespace": "n"}, "spec": spec})).expect("an autoscaler")
}

fn found(replicas: i32) -> Outcome {
    Outcome { status: Default::default(), result: Ok(Found { replicas, name: "cpu resource".into() }) }
}

fn failed() -> Outcome {
    let failure = Failure { reason: "FailedGetResourceMetric", why: "why".into(), summary: "all of it: why".into() };
    Outcome { status: Default::default(), result: Err(failure) }
}

fn planned(current: i32, outcomes: &[Outcome]) -> Plan {
    let autoscaler = autoscaler(2, 10);
    let status = plan::begun(&autoscaler, current, at(0));
    plan::by_metrics(&autoscaler, status, outcomes, &mut Past::default(), at(0))
}

fn condition<'a>(status: &'a HorizontalPodAutoscalerStatus, type_: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == type_).expect("the condition");
    (&found.status, found.reason.as_deref().unwrap_or_default())
}

#[test]
fn bounds_come_before_metrics() {
    let above = Rescale { replicas: 10, reason: "Current number of replicas above Spec.MaxReplicas".into() };
    assert_eq!(plan::way(&autoscaler(2, 10), 11, false), Way::Bounded(above));
    assert!(matches!(plan::way(&autoscaler(2, 10), 1, false), Way::Bounded(Rescale { replicas: 2, .. })));
    assert_eq!(plan::way(&autoscaler(2, 10), 0, false), Way::Disabled);
    assert_eq!(plan::way(&autoscaler(2, 10), 5, false), Way::Metrics);
}

/// An autoscaler by an external metric which scaled its target to zero, or did not.
fn to_zero(min: i32, scaled: bool) -> HorizontalPodAutoscaler {
    let mut autoscaler = autoscaler(min, 10);
    let metrics = json!([{"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]);
    autoscaler.spec.metrics = Some(serde_json::from_value(metrics).expect("metrics"));
    let mut status = HorizontalPodAutoscalerStatus::default();
    zero::scaled(&mut status, &without_least(&autoscaler), (1, i32::from(!scaled)), true, at(0));
    autoscaler.status = Some(status);
    autoscaler
}

/// The same autoscaler with no least number of replicas.
fn without_least(autoscaler: &HorizontalPodAutoscaler) -> HorizontalPodAutoscaler {
    let mut autoscaler = autoscaler.clone();
    autoscaler.spec.min_replicas = Some(0);
    autoscaler
}

#[test]
fn only_what_an_autoscaler_scaled_to_zero_comes_back_from_there() {
    assert_eq!(plan::way(&to_zero(0, true), 0, true), Way::Metrics);
    assert_eq!(plan::way(&to_zero(0, true), 0, false), Way::Disabled, "the feature is off");
    assert_eq!(plan::way(&to_zero(0, false), 0, true), Way::Disabled, "somebody scaled it by hand");
    assert_eq!(plan::way(&to_zero(2, true), 0, true), Way::Metrics, "it has a least number again");
    let mut of_pods = to_zero(0, true);
    of_pods.spec.metrics = None;
    assert_eq!(plan::way(&of_pods, 0, true), Way::Disabled, "nothing says when to come back");
}

#[test]
fn who_scaled_to_zero_says_so() {
    let noted = |min: i32, size: (i32, i32)| {
        let mut status = to_zero(min, true).status.expect("a status");
        zero::scaled(&mut status, &to_zero(min, true), size, true, at(0));
        status
    };
    assert_eq!(condition(&noted(0, (2, 0)), "ScaledToZero"), ("True", "ScaledToZero"));
    assert_eq!(condition(&noted(0, (0, 1)), "ScaledToZero"), ("False", "NotScaledToZero"));
    assert_eq!(condition(&noted(1, (3, 1)), "ScaledToZero"), ("False", "NotScaledToZero"));
    let off = to_zero(0, true).status.expect("a status");
    let resting = plan::without_metrics(off.clone(), Way::Disabled, 0, false, at(0)).status;
    assert!(resting.conditions.iter().flatten().all(|condition| condition.type_ != "ScaledToZero"), "nobody keeps it up to date");
    let resting = plan::without_metrics(off, Way::Disabled, 0, true, at(0)).status;
    assert_eq!(condition(&resting, "ScaledToZero").0, "True");
}

#[test]
fn from_zero_a_target_comes_to_its_least_number_at_least() {
    let behavior = json!({"scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}});
    for behavior in [None, Some(behavior)] {
        let mut autoscaler = to_zero(3, true);
        autoscaler.spec.behavior = behavior.map(|behavior| serde_json::from_value(behavior).expect("a behavior"));
        let planned = |outcome: Outcome| {
            let status = plan::begun(&autoscaler, 0, at(0));
            plan::by_metrics(&autoscaler, status, &[outcome], &mut Past::default(), at(0)).scale.map(|scale| (scale.replicas, scale.reason))
        };
        assert_eq!(planned(found(0)), Some((3, "Current number of replicas below Spec.MinReplicas".to_owned())));
        assert_eq!(planned(found(2)), Some((3, "cpu resource above target".to_owned())));
    }
    assert_eq!(by_value_per_pod(0, 10, 0, TENTH), Proposal { replicas: 0, utilization: None, usage: 0 });
    assert_eq!(by_value_per_pod(25, 10, 0, TENTH), Proposal { replicas: 3, utilization: None, usage: 25 });
}

#[test]
fn the_highest_proposal_counts() {
    let plan = planned(4, &[found(3), found(7), found(5)]);
    assert_eq!(plan.scale, Some(Rescale { replicas: 7, reason: "cpu resource above target".into() }));
    assert_eq!(condition(&plan.status, "ScalingActive"), ("True", "ValidMetricFound"));
    assert_eq!(planned(4, &[found(4)]).scale, None);
}

#[test]
fn with_a_metric_missing_nothing_gets_smaller() {
    let smaller = planned(4, &[found(2), failed()]);
    assert_eq!((smaller.scale, condition(&smaller.status, "ScalingActive")), (None, ("False", "FailedGetResourceMetric")));
    assert_eq!(smaller.error.as_deref(), Some("invalid metrics (1 invalid out of 2), first error is: all of it: why"));
    assert_eq!(planned(4, &[found(6), failed()]).scale.map(|scale| scale.replicas), Some(6));
    let none = planned(4, &[failed()]);
    assert_eq!(none.events.iter().map(|event| event.0).collect::<Vec<_>>(), ["FailedGetResourceMetric", "FailedComputeMetricsReplicas"]);
}

proptest! {
    #[test]
    fn a_plan_stays_within_the_bounds(current in 2..10, proposals in prop::collection::vec(0..200, 1..4)) {
        let outcomes: Vec<Outcome> = proposals.iter().map(|replicas| found(*replicas)).collect();
        let plan = planned(current, &outcomes);
        prop_assert!((2..=10).contains(&plan.status.desired_replicas));
        prop_assert_eq!(plan.scale.is_some(), plan.status.desired_replicas != current);
    }
}

#[test]
fn autoscalers_that_share_pods_name_a_few_of_each_other() {
    let keys = |count: usize| (0..count).map(|at| ObjectKey::new("n", format!("h{at:03}"))).collect::<Vec<_>>();
    assert_eq!(ambiguous("app=a", &keys(2)), "pods by selector app=a are controlled by multiple HPAs: [n/h000 n/h001]");
    let many = ambiguous(&"x".repeat(100_000), &keys(400));
    assert!(many.ends_with("n/h009 and 390 more]") && many.len() < 2048, "{} bytes", many.len());
}

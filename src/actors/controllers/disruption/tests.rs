use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Expectation, Plan, needs_scale, plan};
use crate::{controllers::pod_digest::PodDigest, runtime::cache::digest_of};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let mut budget: PodDisruptionBudget =
        serde_json::from_value(json!({"metadata": {"name": "b", "namespace": "n", "generation": 2}})).expect("a budget");
    budget.spec = Some(serde_json::from_value(spec).expect("a spec"));
    budget.status = serde_json::from_value(status).expect("a status");
    budget
}

fn pods(ready: usize, unready: usize) -> Vec<Arc<PodDigest>> {
    let pod = |at: usize| {
        let status = if at < ready { "True" } else { "False" };
        json!({"metadata": {"name": format!("p{at}")}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}})
    };
    (0..ready + unready).map(|at| digest_of(&serde_json::from_value::<Pod>(pod(at)).expect("a pod"))).collect()
}

fn expect(count: i32) -> Result<Expectation, String> {
    Ok(Expectation { count, unmanaged: Vec::new() })
}

/// desired, current, allowed
fn numbers(plan: &Plan) -> (i32, i32, i32) {
    let status = plan.status.as_ref().expect("a status");
    let number = |field: Option<i32>| field.expect("is counted");
    (number(status.desired_healthy), number(status.current_healthy), number(status.disruptions_allowed))
}

#[test]
fn budgets_count_by_number_and_by_share() {
    let cases = [
        (json!({"minAvailable": 2}), 3, (2, 3, 1)),
        (json!({"minAvailable": "50%"}), 5, (3, 3, 0)),
        (json!({"maxUnavailable": 1}), 5, (4, 3, 0)),
        (json!({"maxUnavailable": 1}), 3, (2, 3, 1)),
        (json!({"maxUnavailable": "34%"}), 3, (1, 3, 2)),
        (json!({"maxUnavailable": 9}), 3, (0, 3, 3)),
        (json!({"minAvailable": "50%"}), 0, (0, 3, 0)),
    ];
    for (spec, expected, want) in cases {
        let planned = plan(&budget(spec.clone(), json!(null)), &pods(3, 0), expect(expected), now());
        assert_eq!(numbers(&planned), want, "{spec} of {expected}");
    }
}

#[test]
fn only_shares_ask_for_the_scale() {
    let needs = |spec: Value| needs_scale(&budget(spec, json!(null)));
    assert!(!needs(json!({"minAvailable": 1})) && needs(json!({"minAvailable": "1%"})) && needs(json!({"maxUnavailable": 1})));
}

#[test]
fn an_evicted_pod_counts_as_gone_until_its_time_is_up() {
    let status = |since: &str| json!({"disruptedPods": {"p0": since}, "observedGeneration": 2, "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    let fresh = plan(&budget(json!({"minAvailable": 1}), status("2025-12-31T23:59:00Z")), &pods(3, 0), expect(3), now());
    assert_eq!(numbers(&fresh), (1, 2, 1));
    assert_eq!(fresh.recheck, Some(std::time::Duration::from_secs(60)));
    let overdue = plan(&budget(json!({"minAvailable": 1}), status("2025-12-31T23:57:00Z")), &pods(3, 0), expect(3), now());
    assert_eq!((numbers(&overdue), overdue.not_deleted), ((1, 3, 2), vec!["p0".to_owned()]));
}

#[test]
fn an_unknown_scale_allows_nothing_and_says_so() {
    let known = json!({"disruptionsAllowed": 2, "currentHealthy": 3, "desiredHealthy": 1, "expectedPods": 3, "observedGeneration": 1});
    let planned = plan(&budget(json!({"maxUnavailable": 1}), known), &pods(3, 0), Err("found no controllers for pod \"p0\"".into()), now());
    let status = planned.status.expect("a status");
    let condition = &status.conditions.expect("conditions")[0];
    assert_eq!((status.disruptions_allowed.unwrap_or(-1), condition.reason.as_str(), condition.status.as_str()), (0, "SyncFailed", "False"));
    assert_eq!(condition.message, "found no controllers for pod \"p0\"");
}

proptest! {
    #[test]
    fn a_planned_status_needs_no_other(ready in 0_usize..5, unready in 0_usize..5, expected in 0..9, share in 0..100, by_share: bool, most: bool) {
        let value = if by_share { json!(format!("{share}%")) } else { json!(share % 7) };
        let mut budget = budget(if most { json!({"maxUnavailable": value}) } else { json!({"minAvailable": value}) }, json!(null));
        let pods = pods(ready, unready);
        let first = plan(&budget, &pods, expect(expected), now());
        budget.status = first.status.clone();
        prop_assert_eq!(plan(&budget, &pods, expect(expected), now()).status, None);
        let (desired, current, allowed) = numbers(&first);
        prop_assert!(allowed == 0 || current - allowed >= desired);
    }
}

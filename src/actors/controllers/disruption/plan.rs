//! Judges what a budget can spare. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};
use troupe_api::resources::{
    budget::{INSUFFICIENT_PODS, SUFFICIENT_PODS, SYNC_FAILED, allowed, condition, set_condition, update_condition},
    int_or_string::{Rounding, scaled},
};

use crate::controllers::{pod_digest::PodDigest, selector_text::selector_text};

/// An evicted pod counts as gone for this long; if it is not being deleted then, the eviction failed.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// How many pods there should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expectation {
    pub count: i32,
    /// Pods that no controller would replace.
    pub unmanaged: Vec<String>,
}

/// What to do about a budget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The status to write, if it is another one.
    pub status: Option<PodDisruptionBudgetStatus>,
    /// Some pods have no controller, so a percentage means little.
    pub unmanaged: bool,
    /// Pods that were evicted and are still there.
    pub not_deleted: Vec<String>,
    pub recheck: Option<Duration>,
}

/// Whether the budget speaks of a share of what its pods' controllers want.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// Decides on the status. An unknown expectation allows nothing.
pub fn plan(budget: &PodDisruptionBudget, pods: &[Arc<PodDigest>], expectation: Result<Expectation, String>, now: Timestamp) -> Plan {
    let judged = expectation.and_then(|expectation| Ok((desired(budget, expectation.count)?, expectation)));
    let (desired, expectation) = match judged {
        Ok(judged) => judged,
        Err(why) => return Plan { status: failed(budget, &why, now), ..Plan::default() },
    };
    let disrupted = disrupted(budget, pods, now);
    let healthy = pods.iter().filter(|pod| is_healthy(pod, &disrupted.waiting)).count();
    let current = i32::try_from(healthy).unwrap_or(i32::MAX);
    let spare = if expectation.count > 0 { current.saturating_sub(desired).max(0) } else { 0 };
    let known = budget.status.clone().unwrap_or_default();
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(current),
        desired_healthy: Some(desired),
        expected_pods: Some(expectation.count),
        disruptions_allowed: Some(spare),
        disrupted_pods: (!disrupted.waiting.is_empty()).then_some(disrupted.waiting),
        observed_generation: budget.metadata.generation,
        conditions: known.conditions.clone(),
    };
    if !is_current(&status, &known) {
        update_condition(&mut status, now);
    }
    Plan {
        status: (status != known).then_some(status),
        unmanaged: !expectation.unmanaged.is_empty(),
        not_deleted: disrupted.overdue,
        recheck: disrupted.recheck,
    }
}

/// Whether the condition says what the numbers say.
fn is_current(status: &PodDisruptionBudgetStatus, known: &PodDisruptionBudgetStatus) -> bool {
    let (text, reason) = if allowed(status) > 0 { ("True", SUFFICIENT_PODS) } else { ("False", INSUFFICIENT_PODS) };
    let fits = condition(known).is_some_and(|condition| condition.status == text && condition.reason == reason);
    fits && status.observed_generation == known.observed_generation
}

fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> Option<PodDisruptionBudgetStatus> {
    let known = budget.status.clone().unwrap_or_default();
    let mut status = known.clone();
    status.disruptions_allowed = Some(0);
    set_condition(&mut status, false, SYNC_FAILED, why, now);
    (status != known).then_some(status)
}

fn desired(budget: &PodDisruptionBudget, expected: i32) -> Result<i32, String> {
    let Some(spec) = &budget.spec else { return Ok(0) };
    let number = |value: &IntOrString| scaled(value, expected, Rounding::Up).ok_or_else(|| "invalid value for IntOrString".to_owned());
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => Ok(expected.saturating_sub(number(most)?).max(0)),
        (None, Some(least)) => number(least),
        (None, None) => Ok(0),
    }
}

fn is_healthy(pod: &PodDigest, waiting: &BTreeMap<String, Time>) -> bool {
    let leaves = waiting.contains_key(&*pod.meta.name);
    !pod.standing.is_deleted && !leaves && pod.standing.is_ready
}

/// What became of the evictions that the budget was charged for.
struct Disrupted {
    /// Not being deleted yet, but expected to be.
    waiting: BTreeMap<String, Time>,
    overdue: Vec<String>,
    recheck: Option<Duration>,
}

fn disrupted(budget: &PodDisruptionBudget, pods: &[Arc<PodDigest>], now: Timestamp) -> Disrupted {
    let evicted = budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let mut found = Disrupted { waiting: BTreeMap::new(), overdue: Vec::new(), recheck: None };
    for pod in pods.iter().filter(|pod| !pod.standing.is_deleted) {
        let Some(since) = evicted.get(&*pod.meta.name) else { continue };
        let name = pod.meta.name.to_string();
        let left = DELETION_TIMEOUT.saturating_sub(now.duration_since(since.0));
        if left.is_negative() {
            found.overdue.push(name);
            continue;
        }
        let left = Duration::try_from(left).unwrap_or_default();
        found.recheck = Some(found.recheck.map_or(left, |recheck| recheck.min(left)));
        found.waiting.insert(name, since.clone());
    }
    found
}

/// What people are told about pods that no controller would replace.
pub fn unmanaged_message(budget: &PodDisruptionBudget) -> String {
    let selector = selector_text(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated \
         correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

//! Disruption budgets: the condition that tells whether pods may be evicted.

use jiff::Timestamp;
use k8s_openapi::{
    api::policy::v1::PodDisruptionBudgetStatus,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};

pub const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
pub const SUFFICIENT_PODS: &str = "SufficientPods";
pub const INSUFFICIENT_PODS: &str = "InsufficientPods";
pub const SYNC_FAILED: &str = "SyncFailed";

/// How many pods may be disrupted now.
pub fn allowed(status: &PodDisruptionBudgetStatus) -> i32 {
    status.disruptions_allowed.unwrap_or(0)
}

/// How many pods are healthy, and how many have to be.
pub fn health(status: &PodDisruptionBudgetStatus) -> (i32, i32) {
    (status.current_healthy.unwrap_or(0), status.desired_healthy.unwrap_or(0))
}

/// Sets the condition to what `disruptionsAllowed` says.
pub fn update_condition(status: &mut PodDisruptionBudgetStatus, now: Timestamp) {
    let allowed = allowed(status) > 0;
    let reason = if allowed { SUFFICIENT_PODS } else { INSUFFICIENT_PODS };
    set_condition(status, allowed, reason, "", now);
}

/// Sets the condition; its transition time moves only with its status.
pub fn set_condition(status: &mut PodDisruptionBudgetStatus, allowed: bool, reason: &str, message: &str, now: Timestamp) {
    let text = if allowed { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|condition| condition.type_ == DISRUPTION_ALLOWED);
    let since = known.map(|at| &conditions[at]).filter(|condition| condition.status == text).map(|condition| condition.last_transition_time.clone());
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.into(),
        status: text.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: status.observed_generation,
        last_transition_time: since.unwrap_or(Time(now)),
    };
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// The condition, where it was ever set.
pub fn condition(status: &PodDisruptionBudgetStatus) -> Option<&Condition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == DISRUPTION_ALLOWED)
}

//! Conditions of autoscalers. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::autoscaling::v2::{HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// Sets a condition; its time of transition is that of its status.
pub fn set_condition(status: &mut HorizontalPodAutoscalerStatus, type_: &str, is_true: bool, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let value = if is_true { "True" } else { "False" };
    let known = conditions.iter().position(|condition| condition.type_ == type_).unwrap_or_else(|| {
        conditions.push(HorizontalPodAutoscalerCondition { type_: type_.to_owned(), ..HorizontalPodAutoscalerCondition::default() });
        conditions.len() - 1
    });
    let condition = &mut conditions[known];
    if condition.status != value {
        condition.last_transition_time = Some(Time(now));
    }
    value.clone_into(&mut condition.status);
    condition.reason = Some(reason.to_owned());
    condition.message = Some(message.to_owned());
}

/// Takes a condition away.
pub fn remove_condition(status: &mut HorizontalPodAutoscalerStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

/// Whether a condition holds; one that is not there does not.
pub fn has_condition(status: Option<&HorizontalPodAutoscalerStatus>, type_: &str) -> bool {
    let mut conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
}

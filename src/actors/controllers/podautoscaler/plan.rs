//! Decides on the size of a target and on what the autoscaler's status says. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    behavior::{Past, Request},
    conditions::set_condition,
    measure::Outcome,
    zero,
};

const BELOW_MIN: &str = "Current number of replicas below Spec.MinReplicas";

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What the status says, but for the result of scaling.
    pub status: HorizontalPodAutoscalerStatus,
    pub scale: Option<Rescale>,
    /// Events: whether a warning, reason, message.
    pub events: Vec<(&'static str, String)>,
    /// Some metrics could not be had.
    pub error: Option<String>,
}

/// Another size of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    pub replicas: i32,
    pub reason: String,
}

/// Which way the size is decided before any metric is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The target has no replicas, which switches the autoscaler off.
    Disabled,
    /// The target is outside of the autoscaler's bounds.
    Bounded(Rescale),
    Metrics,
}

/// What decides for a target of this size; `to_zero` is whether autoscalers scale to zero at all.
pub fn way(autoscaler: &HorizontalPodAutoscaler, current: i32, to_zero: bool) -> Way {
    let (min, max) = bounds(autoscaler);
    match current {
        0 if zero::leaves(autoscaler, to_zero) => Way::Metrics,
        0 => Way::Disabled,
        _ if current > max => Way::Bounded(Rescale { replicas: max, reason: "Current number of replicas above Spec.MaxReplicas".into() }),
        _ if current < min => Way::Bounded(Rescale { replicas: min, reason: BELOW_MIN.into() }),
        _ => Way::Metrics,
    }
}

/// The least and the most replicas.
fn bounds(autoscaler: &HorizontalPodAutoscaler) -> (i32, i32) {
    (autoscaler.spec.min_replicas.unwrap_or(1), autoscaler.spec.max_replicas)
}

/// The status of an autoscaler whose target could not be asked.
pub fn without_scale(autoscaler: &HorizontalPodAutoscaler, why: &str, now: Timestamp) -> HorizontalPodAutoscalerStatus {
    let mut status = autoscaler.status.clone().unwrap_or_default();
    let message = format!("the HPA controller was unable to get the target's current scale: {why}");
    set_condition(&mut status, "AbleToScale", false, "FailedGetScale", &message, now);
    status
}

/// Begins a status: the target could be asked.
pub fn begun(autoscaler: &HorizontalPodAutoscaler, current: i32, now: Timestamp) -> HorizontalPodAutoscalerStatus {
    let mut status = autoscaler.status.clone().unwrap_or_default();
    let message = "the HPA controller was able to get the target's current scale";
    set_condition(&mut status, "AbleToScale", true, "SucceededGetScale", message, now);
    status.current_replicas = Some(current);
    status
}

/// The plan for a target that no metric decides for.
pub fn without_metrics(mut status: HorizontalPodAutoscalerStatus, way: Way, current: i32, to_zero: bool, now: Timestamp) -> Plan {
    status.current_metrics = None;
    let scale = match way {
        Way::Bounded(rescale) => Some(rescale),
        Way::Disabled | Way::Metrics => {
            let message = "scaling is disabled since the replica count of the target is zero";
            set_condition(&mut status, "ScalingActive", false, "ScalingDisabled", message, now);
            zero::rested(&mut status, to_zero);
            None
        }
    };
    status.desired_replicas = scale.as_ref().map_or(current, |scale| scale.replicas);
    Plan { status, scale, events: Vec::new(), error: None }
}

/// The plan for a target without a usable selector.
pub fn without_selector(mut status: HorizontalPodAutoscalerStatus, event: (&'static str, String), condition: (&str, &str), now: Timestamp) -> Plan {
    set_condition(&mut status, "ScalingActive", false, condition.0, condition.1, now);
    status.current_metrics = None;
    let error = event.1.clone();
    Plan { status, scale: None, events: vec![event, ("FailedComputeMetricsReplicas", error.clone())], error: Some(error) }
}

/// The plan that follows from what the metrics say.
pub fn by_metrics(
    autoscaler: &HorizontalPodAutoscaler,
    mut status: HorizontalPodAutoscalerStatus,
    outcomes: &[Outcome],
    past: &mut Past,
    now: Timestamp,
) -> Plan {
    let current = status.current_replicas.unwrap_or(0);
    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()).collect();
    let mut events: Vec<(&'static str, String)> = failures.iter().map(|failure| (failure.reason, failure.why.clone())).collect();
    let (replicas, name) = highest(outcomes);
    let error = failures
        .first()
        .map(|first| format!("invalid metrics ({} invalid out of {}), first error is: {}", failures.len(), outcomes.len(), first.summary));
    status.current_metrics = statuses(outcomes);
    // What is not known might ask for more: with a metric missing nothing gets smaller.
    if let Some(first) = failures.first().filter(|_| failures.len() >= outcomes.len() || replicas < current) {
        let message = format!("the HPA was unable to compute the replica count: {}", first.why);
        set_condition(&mut status, "ScalingActive", false, first.reason, &message, now);
        events.extend(error.clone().map(|error| ("FailedComputeMetricsReplicas", error)));
        return Plan { status, scale: None, events, error };
    }
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    set_condition(&mut status, "ScalingActive", true, "ValidMetricFound", &message, now);
    let mut reason = if replicas > current { format!("{name} above target") } else { "All metrics below target".to_owned() };
    let (min, max) = bounds(autoscaler);
    let behavior = autoscaler.spec.behavior.as_ref();
    let mut allowed = past.limit(Request { current, desired: replicas, min, max }, behavior, now);
    set_condition(&mut status, "AbleToScale", true, allowed.able.0, allowed.able.1, now);
    set_condition(&mut status, "ScalingLimited", allowed.is_limited, allowed.limited.0, allowed.limited.1, now);
    // The rates of a behavior know no least number, which a target that leaves zero has whatever its metrics say.
    if current == 0 {
        allowed.replicas = allowed.replicas.max(min);
        if replicas == 0 {
            BELOW_MIN.clone_into(&mut reason);
        }
    }
    status.desired_replicas = allowed.replicas;
    let scale = (allowed.replicas != current).then_some(Rescale { replicas: allowed.replicas, reason });
    Plan { status, scale, events, error }
}

/// The status after the target was given another size, or was not.
pub fn rescaled(status: &mut HorizontalPodAutoscalerStatus, known: i32, rescale: &Rescale, result: &Result<(), String>, now: Timestamp) {
    match result {
        Ok(()) => {
            let message = format!("the HPA controller was able to update the target scale to {}", rescale.replicas);
            set_condition(status, "AbleToScale", true, "SucceededRescale", &message, now);
            status.last_scale_time = Some(Time(now));
        }
        Err(why) => {
            let message = format!("the HPA controller was unable to update the target scale: {why}");
            set_condition(status, "AbleToScale", false, "FailedUpdateScale", &message, now);
            status.desired_replicas = known;
        }
    }
}

/// The highest proposal and its metric.
fn highest(outcomes: &[Outcome]) -> (i32, &str) {
    let found = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
    found.fold(
        (0, ""),
        |(replicas, name), found| {
            if name.is_empty() || found.replicas > replicas { (found.replicas, &found.name) } else { (replicas, name) }
        },
    )
}

/// One status for each metric, in the order of the spec.
fn statuses(outcomes: &[Outcome]) -> Option<Vec<MetricStatus>> {
    (!outcomes.is_empty()).then(|| outcomes.iter().map(|outcome| outcome.status.clone()).collect())
}

//! Targets without replicas (KEP-2021, the feature `HPAScaleToZero`): only those that an autoscaler itself scaled to zero does it bring back;
//! whoever scales a target to zero by hand switches its autoscaler off. Pure.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};

use super::conditions::{has_condition, remove_condition, set_condition};

/// The condition of an autoscaler that scaled its target to zero.
const SCALED_TO_ZERO: &str = "ScaledToZero";

/// Whether metrics decide for a target without replicas; `is_on` is whether autoscalers scale to zero at all.
pub fn leaves(autoscaler: &HorizontalPodAutoscaler, is_on: bool) -> bool {
    is_on && has_condition(autoscaler.status.as_ref(), SCALED_TO_ZERO) && (least(autoscaler) != 0 || is_measured_without_pods(autoscaler))
}

/// Notes that a target without replicas stays as it is.
pub fn rested(status: &mut HorizontalPodAutoscalerStatus, is_on: bool) {
    if !is_on {
        remove_condition(status, SCALED_TO_ZERO);
    }
}

/// Notes that the target was given another size.
pub fn scaled(status: &mut HorizontalPodAutoscalerStatus, autoscaler: &HorizontalPodAutoscaler, size: (i32, i32), is_on: bool, now: Timestamp) {
    let (from, to) = size;
    if !is_on {
        remove_condition(status, SCALED_TO_ZERO);
    } else if from > 0 && to == 0 && least(autoscaler) == 0 && is_measured_without_pods(autoscaler) {
        set_condition(status, SCALED_TO_ZERO, true, "ScaledToZero", "the HPA controller scaled the workload to zero", now);
    } else {
        set_condition(status, SCALED_TO_ZERO, false, "NotScaledToZero", "the HPA controller did not scale the workload to zero", now);
    }
}

fn least(autoscaler: &HorizontalPodAutoscaler) -> i32 {
    autoscaler.spec.min_replicas.unwrap_or(1)
}

/// Whether there is a metric that says something of a target without pods.
fn is_measured_without_pods(autoscaler: &HorizontalPodAutoscaler) -> bool {
    autoscaler.spec.metrics.iter().flatten().any(|metric| matches!(metric.type_.as_str(), "Object" | "External"))
}

//! What the controller of autoscalers counts, under upstream's names.

use std::{cmp::Ordering, time::Duration};

use troupe_api::metrics::{Collect, Counter, Family, Histogram, exponential};

const SECONDS: [f64; 15] = exponential(0.001, 2.0);

static RECONCILIATIONS: Family<Counter> = Family::new(
    "horizontal_pod_autoscaler_controller_reconciliations_total",
    "Number of reconciliations of HPA controller. The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either 'spec', 'internal', or 'none'. Note that if both spec and internal errors happen during a reconciliation, the first one to occur is reported in `error` label.",
    &["action", "error"],
);
static RECONCILIATION_DURATIONS: Family<Histogram> = Family::histogram(
    "horizontal_pod_autoscaler_controller_reconciliation_duration_seconds",
    "The time(seconds) that the HPA controller takes to reconcile once. The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either 'spec', 'internal', or 'none'. Note that if both spec and internal errors happen during a reconciliation, the first one to occur is reported in `error` label.",
    &["action", "error"],
    &SECONDS,
);
static COMPUTATIONS: Family<Counter> = Family::new(
    "horizontal_pod_autoscaler_controller_metric_computation_total",
    "Number of metric computations. The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either 'spec', 'internal', or 'none'. The label 'metric_type' corresponds to HPA.spec.metrics[*].type",
    &["action", "error", "metric_type"],
);
static COMPUTATION_DURATIONS: Family<Histogram> = Family::histogram(
    "horizontal_pod_autoscaler_controller_metric_computation_duration_seconds",
    "The time(seconds) that the HPA controller takes to calculate one metric. The label 'action' should be either 'scale_down', 'scale_up', or 'none'. The label 'error' should be either 'spec', 'internal', or 'none'. The label 'metric_type' corresponds to HPA.spec.metrics[*].type",
    &["action", "error", "metric_type"],
    &SECONDS,
);

/// What the controller of autoscalers counts.
pub static COLLECTORS: [&dyn Collect; 4] = [&COMPUTATION_DURATIONS, &COMPUTATIONS, &RECONCILIATION_DURATIONS, &RECONCILIATIONS];

/// Which way a target of `current` replicas goes to `wanted`.
fn action(current: i32, wanted: i32) -> &'static str {
    match wanted.cmp(&current) {
        Ordering::Greater => "scale_up",
        Ordering::Less => "scale_down",
        Ordering::Equal => "none",
    }
}

/// An autoscaler was looked at: its target went from one size to another, if it could be asked and changed, and something failed or not.
pub(super) fn looked(change: Option<(i32, i32)>, failed: bool, took: Duration) {
    let labels = [change.map_or("none", |(current, wanted)| action(current, wanted)), if failed { "internal" } else { "none" }];
    RECONCILIATIONS.with(&labels).increment();
    RECONCILIATION_DURATIONS.with(&labels).observe_time(took);
}

/// Why a metric asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The autoscaler names no metric that there is.
    Spec,
    /// It could not be had.
    Internal,
}

/// A metric of a target of `current` replicas was judged: it asks for so many.
pub(super) fn computed(metric_type: &str, current: i32, asked: Result<i32, Fault>, took: Duration) {
    let (action, error) = match asked {
        Ok(wanted) => (action(current, wanted), "none"),
        Err(Fault::Spec) => ("none", "spec"),
        Err(Fault::Internal) => ("none", "internal"),
    };
    let labels = [action, error, metric_type];
    COMPUTATIONS.with(&labels).increment();
    COMPUTATION_DURATIONS.with(&labels).observe_time(took);
}

#[cfg(test)]
mod tests {
    use troupe_api::metrics::{parse::Samples, render};

    use super::*;

    fn counted(name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        samples.value(&format!("horizontal_pod_autoscaler_controller_{name}"), labels).unwrap_or_default()
    }

    #[test]
    fn metrics_count_by_type_and_by_what_they_ask_for() {
        for asked in [Ok(5), Ok(5), Ok(1), Ok(3), Err(Fault::Internal), Err(Fault::Spec)] {
            computed("Counted", 3, asked, Duration::from_millis(3));
        }
        let count = |action, error| counted("metric_computation_total", &[("action", action), ("error", error), ("metric_type", "Counted")]);
        assert_eq!([count("scale_up", "none"), count("scale_down", "none"), count("none", "none")], [2.0, 1.0, 1.0]);
        assert_eq!([count("none", "internal"), count("none", "spec")], [1.0, 1.0]);
        let within = [("metric_type", "Counted"), ("action", "scale_up"), ("le", "0.004")];
        assert_eq!(counted("metric_computation_duration_seconds_bucket", &within), 2.0);
    }

    #[test]
    fn looks_count_by_what_became_of_the_target() {
        let count = |action, error| counted("reconciliations_total", &[("action", action), ("error", error)]);
        let before = [count("scale_down", "internal"), count("none", "internal")];
        looked(Some((3, 2)), true, Duration::ZERO);
        looked(None, true, Duration::ZERO);
        assert!(count("scale_down", "internal") > before[0] && count("none", "internal") > before[1]);
        assert!(counted("reconciliation_duration_seconds_count", &[("action", "none"), ("error", "internal")]) >= 1.0);
    }
}

//! What the controller of tainted devices counts.

use std::time::Duration;

use troupe_api::metrics::{Collect, Counter, Family, Histogram};

const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0];

static DELETIONS: Family<Counter> = Family::new(
    "device_taint_eviction_controller_pod_deletions_total",
    "Total number of Pods deleted by DeviceTaintEvictionController since its start.",
    &[],
);
static LATENCIES: Family<Histogram> = Family::histogram(
    "device_taint_eviction_controller_pod_deletion_duration_seconds",
    "Latency, in seconds, between the time when a device taint effect has been activated and a Pod's deletion via DeviceTaintEvictionController.",
    &[],
    &SECONDS,
);

pub static COLLECTORS: &[&dyn Collect] = &[&LATENCIES, &DELETIONS];

/// A pod was deleted, so long after it had to go.
pub fn evicted(late: Duration) {
    DELETIONS.with(&[]).increment();
    LATENCIES.with(&[]).observe_time(late);
}

//! What drivers of devices and device plugins take.

use std::time::Duration;

use troupe_api::metrics::{Collect, Counter, DEFAULT_SECONDS, Family, Histogram, exponential};

/// From a tenth of a second to forty: drivers have 45 seconds.
const SECONDS: [f64; 15] = exponential(0.1, 1.534_127);

static OPERATIONS: Family<Histogram> = Family::histogram(
    "dra_operations_duration_seconds",
    "Latency histogram in seconds for the duration of handling all ResourceClaims referenced by a pod when the pod starts or stops. Identified by the name of the operation (PrepareResources or UnprepareResources) and separated by the success of the operation. The number of failed operations is provided through the histogram's overall count.",
    &["operation_name", "is_error"],
    &SECONDS,
);
static CALLS: Family<Histogram> = Family::histogram(
    "dra_grpc_operations_duration_seconds",
    "Duration in seconds of the DRA gRPC operations",
    &["driver_name", "method_name", "grpc_status_code"],
    &SECONDS,
);
static REGISTRATIONS: Family<Counter> = Family::new(
    "kubelet_device_plugin_registration_total",
    "Cumulative number of device plugin registrations. Broken down by resource name.",
    &["resource_name"],
);
static ALLOCATIONS: Family<Histogram> = Family::histogram(
    "kubelet_device_plugin_alloc_duration_seconds",
    "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
    &["resource_name"],
    &DEFAULT_SECONDS,
);

pub static COLLECTORS: [&dyn Collect; 4] = [&CALLS, &OPERATIONS, &ALLOCATIONS, &REGISTRATIONS];

/// Claims of a pod were made ready, or taken back.
pub fn handled(operation: &str, is_error: bool, took: Duration) {
    OPERATIONS.with(&[operation, if is_error { "true" } else { "false" }]).observe(took.as_secs_f64());
}

/// A driver was asked.
pub fn called(driver: &str, method: &str, code: &str, took: Duration) {
    CALLS.with(&[driver, method, code]).observe(took.as_secs_f64());
}

/// A device plugin has come.
pub fn registered(resource: &str) {
    REGISTRATIONS.with(&[resource]).increment();
}

/// A device plugin gave devices, or failed to.
pub fn allocated(resource: &str, took: Duration) {
    ALLOCATIONS.with(&[resource]).observe(took.as_secs_f64());
}

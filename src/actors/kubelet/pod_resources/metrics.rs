//! How often the server is asked.

use troupe_api::metrics::{Collect, Counter, Family};

/// The version that is spoken.
const VERSION: &str = "v1";

/// A family with the one label that all of them have.
const fn family(name: &'static str, help: &'static str) -> Family<Counter> {
    Family::new(name, help, &["server_api_version"])
}

static TOTAL: Family<Counter> = family(
    "kubelet_pod_resources_endpoint_requests_total",
    "Cumulative number of requests to the PodResource endpoint. Broken down by server api version.",
);
static LIST: Family<Counter> =
    family("kubelet_pod_resources_endpoint_requests_list", "Number of requests to the PodResource List endpoint. Broken down by server api version.");
static ALLOCATABLE: Family<Counter> = family(
    "kubelet_pod_resources_endpoint_requests_get_allocatable",
    "Number of requests to the PodResource GetAllocatableResources endpoint. Broken down by server api version.",
);
static GET: Family<Counter> =
    family("kubelet_pod_resources_endpoint_requests_get", "Number of requests to the PodResource Get endpoint. Broken down by server api version.");
static GET_ERRORS: Family<Counter> = family(
    "kubelet_pod_resources_endpoint_errors_get",
    "Number of requests to the PodResource Get endpoint which returned error. Broken down by server api version.",
);

pub static COLLECTORS: [&dyn Collect; 5] = [&GET_ERRORS, &GET, &ALLOCATABLE, &LIST, &TOTAL];

fn count(method: &'static Family<Counter>) {
    TOTAL.with(&[VERSION]).increment();
    method.with(&[VERSION]).increment();
}

/// All pods were asked for.
pub fn listed() {
    count(&LIST);
}

/// All pods were asked for by the first version of the service.
pub fn listed_alpha() {
    TOTAL.with(&["v1alpha1"]).increment();
}

/// What can be had was asked for.
pub fn told_allocatable() {
    count(&ALLOCATABLE);
}

/// One pod was asked for, and is there or not.
pub fn got(is_there: bool) {
    count(&GET);
    if !is_there {
        GET_ERRORS.with(&[VERSION]).increment();
    }
}

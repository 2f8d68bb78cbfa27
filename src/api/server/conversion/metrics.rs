//! What is counted of conversions, under upstream's names.

use std::time::Instant;

use troupe_api::{
    meta::GroupVersion,
    metrics::{Collect, Counter, Family, Histogram},
};

const LATENCY: [f64; 15] = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
const SECONDS: [f64; 15] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];

static DURATIONS: Family<Histogram> =
    Family::histogram("apiserver_conversion_webhook_duration_seconds", "Conversion webhook request latency", &["result", "failure_type"], &SECONDS);
static REQUESTS: Family<Counter> = Family::new(
    "apiserver_conversion_webhook_request_total",
    "Counter for conversion webhook requests with success/failure and failure error type",
    &["result", "failure_type"],
);
static OF_DEFINITIONS: Family<Histogram> = Family::histogram(
    "apiserver_crd_conversion_webhook_duration_seconds",
    "CRD webhook conversion duration in seconds",
    &["crd_name", "from_version", "to_version", "succeeded"],
    &LATENCY,
);

/// What conversions count.
pub static COLLECTORS: [&dyn Collect; 3] = [&DURATIONS, &REQUESTS, &OF_DEFINITIONS];

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no answer, or none that decodes.
    Call,
    /// The answer is not what was asked for, or says no.
    Malformed,
    /// There are more or fewer objects than were asked about.
    Partial,
    /// An object is not what it must be.
    InvalidObject,
}

impl Failure {
    fn name(self) -> &'static str {
        match self {
            Failure::Call => "conversion_webhook_call_failure",
            Failure::Malformed => "conversion_webhook_malformed_response_failure",
            Failure::Partial => "conversion_webhook_partial_response_failure",
            Failure::InvalidObject => "conversion_webhook_invalid_converted_object_failure",
        }
    }
}

/// Counts a question that was asked at `began` about objects of the `apiVersion` `from`.
pub(super) fn converted(definition: &str, from: &str, to: &str, began: Instant, failure: Option<Failure>) {
    let result = if failure.is_some() { "failure" } else { "success" };
    let labels = [result, failure.map_or("", Failure::name)];
    DURATIONS.with(&labels).observe_time(began.elapsed());
    REQUESTS.with(&labels).increment();
    let [from, to] = [from, to].map(|api_version| GroupVersion::parse(api_version).version);
    let succeeded = if failure.is_some() { "false" } else { "true" };
    OF_DEFINITIONS.with(&[definition, &from, &to, succeeded]).observe_time(began.elapsed());
}

//! What is counted of admission policies, under upstream's names.

use std::time::Duration;

use crate::metrics::{Collect, Counter, Family, Histogram};

const SECONDS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];

static VALIDATIONS: Family<Counter> = Family::new(
    "apiserver_validating_admission_policy_check_total",
    "Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
    &["policy", "policy_binding", "error_type", "enforcement_action"],
);
static VALIDATION_DURATIONS: Family<Histogram> = Family::histogram(
    "apiserver_validating_admission_policy_check_duration_seconds",
    "Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
    &["policy", "policy_binding", "error_type", "enforcement_action"],
    &SECONDS,
);
static MUTATIONS: Family<Counter> = Family::new(
    "apiserver_mutating_admission_policy_check_total",
    "Mutation admission policy check total, labeled by policy and further identified by binding.",
    &["policy", "policy_binding", "error_type"],
);
static MUTATION_DURATIONS: Family<Histogram> = Family::histogram(
    "apiserver_mutating_admission_policy_check_duration_seconds",
    "Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
    &["policy", "policy_binding", "error_type"],
    &SECONDS,
);

/// What policies count.
pub static COLLECTORS: [&dyn Collect; 4] = [&MUTATION_DURATIONS, &MUTATIONS, &VALIDATION_DURATIONS, &VALIDATIONS];

/// What kind of error a message tells of; without one there was none.
fn error_type(message: Option<&str>) -> &'static str {
    match message {
        None => "no_error",
        Some(message) if message.starts_with("compilation") => "compile_error",
        Some(message) if message.starts_with("validation failed due to running out of cost budget") => "out_of_budget",
        Some(_) => "invalid_error",
    }
}

/// Counts a validation and what was done about it.
pub(super) fn validated(policy: &str, binding: &str, action: &str, elapsed: Duration, message: Option<&str>) {
    let labels = [policy, binding, error_type(message), action];
    VALIDATIONS.with(&labels).increment();
    VALIDATION_DURATIONS.with(&labels).observe_time(elapsed);
}

/// Counts a mutation.
pub(super) fn mutated(policy: &str, binding: &str, elapsed: Duration, error: Option<&str>) {
    let labels = [policy, binding, error_type(error)];
    MUTATIONS.with(&labels).increment();
    MUTATION_DURATIONS.with(&labels).observe_time(elapsed);
}

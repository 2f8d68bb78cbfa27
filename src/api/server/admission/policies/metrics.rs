//! What is counted of admission policies, under upstream's names.

use std::time::Duration;

use troupe_api::metrics::{Collect, Counter, Departures, Family, Histogram, SeriesLabels};

use crate::admission::match_metrics;

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
/// Those of policies that change, and those of policies that validate: names are of one of these.
pub(super) static MUTATING: [&dyn Collect; 2] = [&MUTATION_DURATIONS, &MUTATIONS];
pub(super) static VALIDATING: [&dyn Collect; 2] = [&VALIDATION_DURATIONS, &VALIDATIONS];

/// Forgets the series of policies and bindings that are gone.
pub(super) fn forget(collectors: &[&dyn Collect], gone: &Departures<Named>) {
    let is_gone = |labels: &SeriesLabels<'_>| {
        gone.gone().any(|named| match named {
            Named::Policy(name) => labels.get("policy") == Some(name),
            Named::Binding(name) => labels.get("policy_binding") == Some(name),
        })
    };
    collectors.iter().for_each(|family| family.forget(&is_gone));
    let is_gone = |labels: &SeriesLabels<'_>| gone.gone().any(|named| matches!(named, Named::Policy(name) if labels.get("name") == Some(name)));
    match_metrics::forget(&|labels| labels.get("kind") == Some("policy") && is_gone(labels));
}

/// What series are named by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    Policy(Box<str>),
    Binding(Box<str>),
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::metrics::{parse::Samples, render};

    #[test]
    fn series_go_with_their_policy_or_binding() {
        let [stays, goes] = ["stays.counted", "goes.counted"];
        for (policy, binding) in [(stays, stays), (stays, goes), (goes, stays)] {
            validated(policy, binding, "deny", Duration::ZERO, None);
            mutated(policy, binding, Duration::ZERO, None);
        }
        let named = |name: &str| [Named::Policy(name.into()), Named::Binding(name.into())];
        let mut names = Departures::default();
        assert!(!names.follow([named(stays), named(goes)].concat().into_iter().collect()));
        assert!(names.follow(named(stays).into()));
        forget(&VALIDATING, &names);
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        let count = |family: &str, policy: &str, binding: &str| samples.value(family, &[("policy", policy), ("policy_binding", binding)]);
        let of = |family: &str| [(stays, stays), (stays, goes), (goes, stays)].map(|(policy, binding)| count(family, policy, binding));
        assert_eq!(of("apiserver_validating_admission_policy_check_total"), [Some(1.0), None, None]);
        assert_eq!(of("apiserver_mutating_admission_policy_check_total"), [Some(1.0); 3], "names of the other kind are others");
    }
}

//! What is counted of match conditions, under upstream's names. How long those took that hold is not told, as upstream.

use troupe_api::metrics::{Collect, Counter, Family, Histogram, SeriesLabels};

use super::{Operation, expressions::Held};

const LABELS: [&str; 4] = ["name", "kind", "type", "operation"];

static FAILURES: Family<Counter> = Family::new(
    "apiserver_admission_match_condition_evaluation_errors_total",
    "Admission match condition evaluation errors count, identified by name of resource containing the match condition and broken out for each kind containing matchConditions (webhook or policy), operation and admission type (validate or admit).",
    &LABELS,
);
static DURATIONS: Family<Histogram> = Family::histogram(
    "apiserver_admission_match_condition_evaluation_seconds",
    "Admission match condition evaluation time in seconds, identified by name and broken out for each kind containing matchConditions (webhook or policy), operation and type (validate or admit).",
    &LABELS,
    &[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25],
);
static EXCLUSIONS: Family<Counter> = Family::new(
    "apiserver_admission_match_condition_exclusions_total",
    "Admission match condition evaluation exclusions count, identified by name of resource containing the match condition and broken out for each kind containing matchConditions (webhook or policy), operation and admission type (validate or admit).",
    &LABELS,
);

/// What match conditions count.
pub static COLLECTORS: [&dyn Collect; 3] = [&FAILURES, &DURATIONS, &EXCLUSIONS];

/// Whose conditions they are.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// A webhook, with the type that metrics of webhooks give it.
    Webhook(&'a str, &'static str),
    /// A policy of either kind.
    Policy(&'a str),
}

impl<'a> Owner<'a> {
    fn labels(self, operation: Operation) -> [&'a str; 4] {
        match self {
            Owner::Webhook(name, step) => [name, "webhook", step, operation.upper()],
            // Those that change objects too.
            Owner::Policy(name) => [name, "policy", "validate", operation.upper()],
        }
    }
}

/// Counts an evaluation that is certain not to be done again.
pub fn evaluated(owner: Owner<'_>, operation: Operation, held: &Held) {
    if held.holds == Ok(true) {
        return;
    }
    let labels = owner.labels(operation);
    DURATIONS.with(&labels).observe_time(held.elapsed);
    for _ in 0..held.failures {
        FAILURES.with(&labels).increment();
    }
}

/// Somebody is not asked because of its conditions.
pub fn excluded(owner: Owner<'_>, operation: Operation) {
    EXCLUSIONS.with(&owner.labels(operation)).increment();
}

/// Forgets the series of owners that are gone.
pub fn forget(is_gone: &dyn Fn(&SeriesLabels<'_>) -> bool) {
    COLLECTORS.iter().for_each(|family| family.forget(is_gone));
}

//! What is counted of webhooks, under upstream's names.

use std::time::Instant;

use troupe_api::metrics::{Collect, Counter, Departures, Family, Histogram, SeriesLabels};

use super::{configuration::Hook, failure::Failure};
use crate::admission::{Operation, match_metrics};

const SECONDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

static DURATIONS: Family<Histogram> = Family::histogram(
    "apiserver_admission_webhook_admission_duration_seconds",
    "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
    &["name", "type", "operation", "rejected"],
    &SECONDS,
);
static REJECTIONS: Family<Counter> = Family::new(
    "apiserver_admission_webhook_rejection_count",
    "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
    &["name", "type", "operation", "error_type", "rejection_code"],
);
static FAILED_OPEN: Family<Counter> = Family::new(
    "apiserver_admission_webhook_fail_open_count",
    "Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).",
    &["name", "type"],
);
static REQUESTS: Family<Counter> = Family::new(
    "apiserver_admission_webhook_request_total",
    "Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
    &["name", "type", "operation", "code", "rejected"],
);

/// What webhooks count.
pub static COLLECTORS: [&dyn Collect; 4] = [&DURATIONS, &FAILED_OPEN, &REJECTIONS, &REQUESTS];

/// Forgets the series of webhooks of a kind that are gone.
pub(super) fn forget(kind: &str, gone: &Departures<Box<str>>) {
    let is_gone = |labels: &SeriesLabels<'_>| {
        labels.get("type") == Some(kind) && labels.get("name").is_some_and(|name| gone.gone().any(|gone| **gone == *name))
    };
    COLLECTORS.iter().for_each(|family| family.forget(&is_gone));
    match_metrics::forget(&|labels| labels.get("kind") == Some("webhook") && is_gone(labels));
}

/// Counts a question that was asked at `began`, and what came of it.
pub(super) fn asked(hook: &Hook, kind: &str, operation: Operation, began: Instant, failure: Option<&Failure>) {
    let operation = operation.upper();
    let open = hook.ignores_failure && matches!(failure, Some(Failure::Calling { .. }));
    let code = failure.map_or(200, Failure::code).to_string();
    let rejected = if failure.is_some() && !open { "true" } else { "false" };
    DURATIONS.with(&[&hook.name, kind, operation, rejected]).observe_time(began.elapsed());
    REQUESTS.with(&[&hook.name, kind, operation, &code, rejected]).increment();
    let Some(failure) = failure else { return };
    if open {
        return FAILED_OPEN.with(&[&hook.name, kind]).increment();
    }
    let error = match failure {
        Failure::Calling { .. } => "calling_webhook_error",
        Failure::Denied(_) => "no_error",
        Failure::Server(_) => "apiserver_internal_error",
    };
    REJECTIONS.with(&[&hook.name, kind, operation, error, &code]).increment();
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::metrics::{parse::Samples, render};

    #[test]
    fn series_go_with_the_last_webhook_of_their_name_and_kind() {
        let [stays, goes] = ["stays.counted.example.com", "goes.counted.example.com"];
        for (name, kind) in [(stays, "admit"), (goes, "admit"), (goes, "validating")] {
            FAILED_OPEN.with(&[name, kind]).increment();
            REQUESTS.with(&[name, kind, "CREATE", "200", "false"]).increment();
        }
        let mut names = Departures::default();
        assert!(!names.follow([stays.into(), goes.into()].into()));
        assert!(names.follow([stays.into()].into()));
        forget("admit", &names);
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        let series =
            |name: &str, kind: &str| samples.all.iter().filter(|sample| sample.labels["name"] == name && sample.labels["type"] == kind).count();
        assert_eq!((series(stays, "admit"), series(goes, "admit"), series(goes, "validating")), (2, 0, 2));
    }
}

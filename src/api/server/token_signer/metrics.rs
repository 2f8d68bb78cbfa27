//! What is counted of a signer, under upstream's names.

use std::time::Duration;

use jiff::Timestamp;
use troupe_api::metrics::{Collect, Counter, Family, Gauge, Histogram};

const SECONDS: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

static FETCHED_AT: Family<Gauge> =
    Family::new("apiserver_externaljwt_fetch_keys_success_timestamp", "Unix Timestamp in seconds of the last successful FetchKeys request", &[]);
static DATA_OF: Family<Gauge> = Family::new(
    "apiserver_externaljwt_fetch_keys_data_timestamp",
    "Unix Timestamp in seconds of the last successful FetchKeys data_timestamp value returned by the external signer",
    &[],
);
static FETCHES: Family<Counter> =
    Family::new("apiserver_externaljwt_fetch_keys_request_total", "Total attempts at syncing supported JWKs", &["code"]);
static SIGNATURES: Family<Counter> = Family::new("apiserver_externaljwt_sign_request_total", "Total attempts at signing JWT", &["code"]);
static DURATIONS: Family<Histogram> = Family::histogram(
    "apiserver_externaljwt_request_duration_seconds",
    "Request duration and time for calls to external-jwt-signer",
    &["method", "code"],
    &SECONDS,
);

/// See the module.
pub static COLLECTORS: [&dyn Collect; 5] = [&FETCHED_AT, &DATA_OF, &FETCHES, &SIGNATURES, &DURATIONS];

/// Keys were fetched, or not; `as_of` is when they were right, in seconds since 1970.
pub(super) fn fetched(code: &str, as_of: Option<f64>, now: Timestamp) {
    FETCHES.with(&[code]).increment();
    if let Some(as_of) = as_of {
        DATA_OF.with(&[]).set(as_of);
        FETCHED_AT.with(&[]).set(now.as_duration().as_secs_f64());
    }
}

pub(super) fn signed(code: &str) {
    SIGNATURES.with(&[code]).increment();
}

pub(super) fn called(method: &str, code: &str, took: Duration) {
    DURATIONS.with(&[method, code]).observe_time(took);
}

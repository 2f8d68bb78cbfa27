//! What units' calls count, under the names of client-go.

use std::time::Instant;

use troupe_api::{
    metrics::{Collect, Counter, Family, Histogram},
    service::{ApiReply, Verb},
    status::Status,
};

/// Calls go to the service behind the client, wherever that is; there is one.
const HOST: &str = "apiserver";
const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

static REQUESTS: Family<Counter> =
    Family::new("rest_client_requests_total", "Number of HTTP requests, partitioned by status code, method, and host.", &["code", "method", "host"]);
static DURATIONS: Family<Histogram> = Family::histogram(
    "rest_client_request_duration_seconds",
    "Request latency in seconds. Broken down by verb, and host.",
    &["verb", "host"],
    &SECONDS,
);

static RETRIES: Family<Counter> = Family::new(
    "rest_client_request_retries_total",
    "Number of request retries, partitioned by status code, verb, and host.",
    &["code", "verb", "host"],
);

/// What is counted of units' calls.
pub static COLLECTORS: [&dyn Collect; 3] = [&DURATIONS, &RETRIES, &REQUESTS];

/// A request is sent again after an answer of this code, or none.
pub fn retried(code: Option<u16>, method: &str) {
    let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
    RETRIES.with(&[&code, method, HOST]).increment();
}

/// Counts a call by its HTTP method and what came of it.
pub async fn counted(verb: Verb, call: impl Future<Output = Result<ApiReply, Status>>) -> Result<ApiReply, Status> {
    let began = Instant::now();
    let outcome = call.await;
    let method = match verb {
        Verb::Get | Verb::List | Verb::Watch => "GET",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete | Verb::DeleteCollection => "DELETE",
    };
    let code = outcome.as_ref().map_or_else(|status| status.code, |reply| reply.code);
    REQUESTS.with(&[&code.to_string(), method, HOST]).increment();
    DURATIONS.with(&[method, HOST]).observe_time(began.elapsed());
    outcome
}

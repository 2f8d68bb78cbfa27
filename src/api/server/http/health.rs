//! `/healthz`, `/livez` and `/readyz`, whole or check by check.

use std::{collections::BTreeSet, fmt::Write};

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderValue},
};
use troupe_api::metrics::health::checked;

use super::{
    options::{HealthCheck, HealthGroups},
    query::Query,
};

/// Answers a health path; `None` when `path` is none or names no check.
pub async fn answer(checks: &[HealthCheck], path: &str, query: &Query) -> Option<HttpResponse> {
    // With a slash behind it the path is another one, which names no check.
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let group = parts.next().filter(|group| matches!(*group, "healthz" | "livez" | "readyz"))?;
    let belongs = |check: &&HealthCheck| match group {
        "healthz" => check.groups.healthz,
        "livez" => check.groups.livez,
        _ => check.groups.readyz,
    };
    let ping = ping();
    let mut checks = std::iter::once(&ping).chain(checks).filter(belongs);
    match parts.next() {
        Some(name) => Some(single(group, checks.find(|check| check.name == name)?).await),
        None => Some(all(group, checks, query).await),
    }
}

/// Whether all that `/readyz` asks for is well.
pub async fn is_ready(checks: &[HealthCheck]) -> bool {
    for check in checks.iter().filter(|check| check.groups.readyz) {
        if (check.check)().await.is_err() {
            return false;
        }
    }
    true
}

/// Whoever answers at all passes this one.
fn ping() -> HealthCheck {
    HealthCheck::new("ping", HealthGroups::ALL, || std::future::ready(Ok(())))
}

/// Runs a check and counts how it went.
async fn run(group: &str, check: &HealthCheck) -> Result<(), String> {
    let outcome = (check.check)().await;
    checked(check.name, group, outcome.is_ok());
    if let Err(why) = &outcome {
        tracing::info!(check = check.name, why, "health check failed");
    }
    outcome
}

async fn single(group: &str, check: &HealthCheck) -> HttpResponse {
    match run(group, check).await {
        Ok(()) => text(200, "ok".into()),
        Err(why) => text(500, format!("internal server error: {why}\n")),
    }
}

async fn all<'a>(group: &str, checks: impl Iterator<Item = &'a HealthCheck>, query: &Query) -> HttpResponse {
    let excluded: BTreeSet<&str> = query.all("exclude").collect();
    let mut unknown = excluded.clone();
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        let name = check.name;
        // Writing to a String succeeds.
        let _ = if excluded.contains(name) {
            unknown.remove(name);
            writeln!(report, "[+]{name} excluded: ok")
        } else if run(group, check).await.is_ok() {
            writeln!(report, "[+]{name} ok")
        } else {
            failed = true;
            writeln!(report, "[-]{name} failed: reason withheld")
        };
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let _ = writeln!(report, "warn: some health checks cannot be excluded: no matches for {}", names.join(","));
    }
    if failed {
        return text(500, format!("{report}{group} check failed\n"));
    }
    if query.get("verbose").is_none() {
        return text(200, "ok".into());
    }
    text(200, format!("{report}{group} check passed\n"))
}

fn text(code: u16, body: String) -> HttpResponse {
    HttpResponse::build(super::outgoing::status_code(code))
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .body(body)
}

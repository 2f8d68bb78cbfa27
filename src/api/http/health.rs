//! `/healthz`, `/livez` and `/readyz`, whole or check by check.

use std::fmt::Write;

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderValue},
};

use super::{options::HealthCheck, query::Query};
use crate::metrics::health::checked;

/// Answers a health path; `None` when `path` is none or names no check.
pub fn answer(checks: &[HealthCheck], path: &str, query: &Query) -> Option<HttpResponse> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let group = parts.next().filter(|group| matches!(*group, "healthz" | "livez" | "readyz"))?;
    let belongs = |check: &&HealthCheck| match group {
        "healthz" => check.groups.healthz,
        "livez" => check.groups.livez,
        _ => check.groups.readyz,
    };
    let checks = checks.iter().filter(belongs);
    match parts.next() {
        Some("ping") => {
            checked("ping", group, true);
            Some(text(200, "ok".into()))
        }
        Some(name) => checks.into_iter().find(|check| check.name == name).map(|check| single(group, check)),
        None => Some(all(group, checks, query)),
    }
}

/// Runs a check and counts how it went.
fn run(group: &str, check: &HealthCheck) -> Result<(), String> {
    let outcome = (check.check)();
    checked(check.name, group, outcome.is_ok());
    outcome
}

fn single(group: &str, check: &HealthCheck) -> HttpResponse {
    match run(group, check) {
        Ok(()) => text(200, "ok".into()),
        Err(why) => {
            tracing::info!(check = check.name, why, "health check failed");
            text(500, format!("internal server error: {why}"))
        }
    }
}

fn all<'a>(group: &str, checks: impl Iterator<Item = &'a HealthCheck>, query: &Query) -> HttpResponse {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut report = String::from("[+]ping ok\n");
    checked("ping", group, true);
    let mut failed = false;
    for check in checks {
        let name = check.name;
        // Writing to a String succeeds.
        let _ = if excluded.contains(&name) {
            writeln!(report, "[+]{name} excluded: ok")
        } else {
            match run(group, check) {
                Ok(()) => writeln!(report, "[+]{name} ok"),
                Err(why) => {
                    tracing::info!(check = name, why, "health check failed");
                    failed = true;
                    writeln!(report, "[-]{name} failed: reason withheld")
                }
            }
        };
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
    HttpResponse::build(super::reply::status_code(code))
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .body(body)
}

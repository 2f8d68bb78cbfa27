//! Validation with upstream's wording: shared rules for metadata, names and labels, and the rules of each kind.

pub mod admission;
pub mod certificates;
pub mod config;
pub mod container;
pub mod coordination;
pub mod cron_job;
pub mod endpoints;
pub mod event;
pub mod ingress;
pub mod ip;
pub mod job;
mod job_policies;
pub mod job_status;
pub mod labels;
pub mod limits;
mod metadata;
pub mod names;
pub mod node;
pub mod pod_spec;
pub mod pod_volumes;
pub mod rbac;
pub mod resources;
pub mod scheduling;
pub mod service;
pub mod stateful_set;
#[cfg(test)]
mod tests;
pub mod volume;
pub mod workload;

use serde_json::Value;

pub use metadata::{metadata, metadata_update};
pub use names::NameRule;

use super::tree::at;
use crate::status::FieldError;

/// What most errors about changed fields say.
pub const IMMUTABLE: &str = "field is immutable";

/// Errors of one value, one per message.
pub fn invalid_each(errors: &mut Vec<FieldError>, field: &str, value: &str, messages: Vec<String>) {
    errors.extend(messages.into_iter().map(|message| FieldError::invalid(field, value, message)));
}

/// A number below zero, where there is one at `name` below `value`.
pub fn non_negative(errors: &mut Vec<FieldError>, value: &Value, path: &str, name: &str) {
    if let Some(number) = at(value, &[name]).as_i64().filter(|number| *number < 0) {
        errors.push(FieldError::invalid(format!("{path}.{name}"), number, "must be greater than or equal to 0"));
    }
}

/// A port number out of range.
pub fn port_number(errors: &mut Vec<FieldError>, field: &str, port: i64) {
    if !(1..=65_535).contains(&port) {
        errors.push(FieldError::invalid(field, port, between(1, 65_535)));
    }
}

/// A port by number or name.
pub fn port_number_or_name(errors: &mut Vec<FieldError>, field: &str, port: &Value) {
    match port {
        Value::String(name) => invalid_each(errors, field, name, names::port_name(name)),
        other => port_number(errors, field, other.as_i64().unwrap_or(0)),
    }
}

/// The wording of a range.
pub fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A value outside a set; an empty one is missing.
pub fn one_of(errors: &mut Vec<FieldError>, field: &str, value: &str, supported: &[&str]) {
    if value.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if !supported.contains(&value) {
        errors.push(FieldError::not_supported(field, value, supported));
    }
}

/// A required text that is empty.
pub fn required(errors: &mut Vec<FieldError>, field: &str, value: &str) {
    if value.is_empty() {
        errors.push(FieldError::required(field, ""));
    }
}

//! Validation with upstream's wording: shared rules for metadata, names and labels, and the rules of each kind.

pub mod address;
pub mod admission;
pub mod api_service;
pub mod autoscaler;
pub mod certificates;
mod conditions;
pub mod config;
pub mod controller_revision;
pub mod coordination;
pub mod cron_job;
pub mod definition;
pub mod devices;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoints;
pub mod event;
mod field;
pub mod flow_control;
pub mod ingress;
pub mod ip;
pub mod job;
mod job_policies;
pub mod job_status;
pub mod labels;
pub mod limit_range;
pub mod load_balancer;
mod metadata;
pub mod namespace;
pub mod network_policy;
pub mod node;
mod path;
pub mod pod;
pub mod pod_certificates;
pub mod priority_class;
pub mod quota;
pub mod rbac;
pub mod resource_names;
pub mod runtime_class;
pub mod scheduling;
pub mod service;
pub mod service_range;
pub mod stateful_set;
pub mod storage;
pub mod storage_migration;
#[cfg(test)]
mod tests;
pub mod trust_bundle;
pub mod volume;
pub mod volume_claim;
pub mod warnings;
pub mod webhook_client;
pub mod workload;

use serde_json::Value;

pub use field::Field;
pub use metadata::{annotations, finalizer_names, metadata, metadata_update};

use super::tree::at;
use crate::{meta::names, status::FieldError};

/// The longest time in seconds that anything may be given to end: nobody means a longer one, and clocks cannot count it.
pub const LONGEST_GRACE: i64 = i32::MAX as i64;

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

/// A grace period that no clock can count. A negative one is taken for the shortest there is.
pub fn grace_period(errors: &mut Vec<FieldError>, field: &str, seconds: Option<i64>) {
    if let Some(seconds) = seconds.filter(|seconds| *seconds > LONGEST_GRACE) {
        errors.push(FieldError::invalid(field, seconds, format!("must be less than or equal to {LONGEST_GRACE}")));
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

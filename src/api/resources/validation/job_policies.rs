//! What a job says of pods that fail, and of when it has succeeded.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    meta::names,
    resources::tree::{at, items, text},
    status::{FieldError, FieldErrorKind},
};

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATES: [&str; 3] = ["False", "True", "Unknown"];
const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const MOST_CONDITIONS: usize = 20;
const LONGEST_INDEXES: usize = 64 * 1024;

/// An error that shows no value.
pub(super) fn bare(field: impl Into<String>, detail: &str) -> FieldError {
    FieldError { kind: FieldErrorKind::Invalid, field: field.into(), value: None, detail: detail.to_owned() }
}

fn too_many(errors: &mut Vec<FieldError>, field: &str, count: usize, most: usize) {
    if count > most {
        errors.push(FieldError::too_many(field, count, most));
    }
}

fn list_of(values: &[&str]) -> String {
    format!("valid values: [{}]", values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(" "))
}

fn chosen(errors: &mut Vec<FieldError>, field: &str, value: &str, supported: &[&str]) {
    if value.is_empty() {
        errors.push(FieldError::required(field, list_of(supported)));
    } else if !supported.contains(&value) {
        errors.push(FieldError::not_supported(field, value, supported));
    }
}

/// `spec.podReplacementPolicy`.
pub fn replacement(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    let policy = text(spec, &["podReplacementPolicy"]);
    let only_failed = !at(spec, &["podFailurePolicy"]).is_null();
    let supported: &[&str] = if only_failed { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    if !at(spec, &["podReplacementPolicy"]).is_null() && !supported.contains(&policy) {
        errors.push(FieldError::not_supported(format!("{path}.podReplacementPolicy"), policy, supported));
    }
}

/// `spec.podFailurePolicy`.
pub fn failure(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    let rules = items(spec, &["podFailurePolicy", "rules"]);
    let field = format!("{path}.podFailurePolicy.rules");
    too_many(errors, &field, rules.len(), MOST_RULES);
    for (index, rule) in rules.iter().enumerate() {
        failure_rule(errors, spec, rule, &format!("{field}[{index}]"));
    }
}

fn failure_rule(errors: &mut Vec<FieldError>, spec: &Value, rule: &Value, field: &str) {
    let action = text(rule, &["action"]);
    if action == "FailIndex" && at(spec, &["backoffLimitPerIndex"]).is_null() {
        errors.push(FieldError::invalid(format!("{field}.action"), action, "requires the backoffLimitPerIndex to be set"));
    }
    chosen(errors, &format!("{field}.action"), action, &ACTIONS);
    let (codes, conditions) = (at(rule, &["onExitCodes"]), items(rule, &["onPodConditions"]));
    if !codes.is_null() {
        exit_codes(errors, spec, codes, &format!("{field}.onExitCodes"));
    }
    pod_conditions(errors, conditions, &format!("{field}.onPodConditions"));
    match (codes.is_null(), conditions.is_empty()) {
        (false, false) => errors.push(bare(field, "specifying both OnExitCodes and OnPodConditions is not supported")),
        (true, true) => errors.push(bare(field, "specifying one of OnExitCodes and OnPodConditions is required")),
        _ => {}
    }
}

fn pod_conditions(errors: &mut Vec<FieldError>, patterns: &[Value], field: &str) {
    too_many(errors, field, patterns.len(), MOST_CONDITIONS);
    for (index, pattern) in patterns.iter().enumerate() {
        let kind = text(pattern, &["type"]);
        super::invalid_each(errors, &format!("{field}[{index}].type"), kind, names::qualified(kind));
        chosen(errors, &format!("{field}[{index}].status"), text(pattern, &["status"]), &STATES);
    }
}

fn exit_codes(errors: &mut Vec<FieldError>, spec: &Value, codes: &Value, field: &str) {
    let operator = text(codes, &["operator"]);
    chosen(errors, &format!("{field}.operator"), operator, &OPERATORS);
    if let Some(name) = at(codes, &["containerName"]).as_str() {
        let containers = ["containers", "initContainers"].iter().flat_map(|list| items(spec, &["template", "spec", list]));
        if !containers.into_iter().any(|container| text(container, &["name"]) == name) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(format!("{field}.containerName"), name, detail));
        }
    }
    let values = items(codes, &["values"]);
    let field = format!("{field}.values");
    if values.is_empty() {
        errors.push(FieldError::invalid(field.as_str(), values.to_vec(), "at least one value is required"));
    }
    too_many(errors, &field, values.len(), MOST_EXIT_CODES);
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    for (index, number) in numbers.iter().enumerate() {
        if operator == "In" && *number == 0 {
            errors.push(FieldError::invalid(format!("{field}[{index}]"), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(number) {
            errors.push(FieldError::duplicate(format!("{field}[{index}]"), *number));
        }
    }
    if !numbers.is_sorted() {
        errors.push(FieldError::invalid(field, values.to_vec(), "must be ordered"));
    }
}

/// `spec.successPolicy` of an indexed job.
pub fn success(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    let rules = items(spec, &["successPolicy", "rules"]);
    let field = format!("{path}.successPolicy.rules");
    if rules.is_empty() {
        errors.push(FieldError::required(field.as_str(), "at least one rules must be specified when the successPolicy is specified"));
    }
    too_many(errors, &field, rules.len(), MOST_RULES);
    for (index, rule) in rules.iter().enumerate() {
        success_rule(errors, spec, rule, &format!("{field}[{index}]"));
    }
}

fn success_rule(errors: &mut Vec<FieldError>, spec: &Value, rule: &Value, field: &str) {
    let completions = at(spec, &["completions"]).as_i64().unwrap_or(0);
    let (count, indexes) = (at(rule, &["succeededCount"]).as_i64(), at(rule, &["succeededIndexes"]).as_str());
    if count.is_none() && indexes.is_none() {
        errors.push(FieldError::required(field, "at least one of succeededCount or succeededIndexes must be specified"));
    }
    let mut total = 0;
    if let Some(text) = indexes {
        let field = format!("{field}.succeededIndexes");
        if text.len() > LONGEST_INDEXES {
            errors.push(FieldError::too_long(field.as_str(), LONGEST_INDEXES));
        }
        match intervals(text, completions) {
            Ok(found) => total = found.iter().map(|(first, last)| last - first + 1).sum(),
            Err(error) => errors.push(FieldError::invalid(field, text, format!("error parsing succeededIndexes: {error}"))),
        }
    }
    let Some(count) = count else { return };
    let field = format!("{field}.succeededCount");
    if count < 0 {
        errors.push(FieldError::invalid(field.as_str(), count, "must be greater than or equal to 0"));
    }
    if count > completions {
        let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.push(FieldError::invalid(field.as_str(), count, detail));
    }
    if indexes.is_some() && count > total {
        let detail = format!("must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)");
        errors.push(FieldError::invalid(field, count, detail));
    }
}

/// Reads completion indexes: `1,3-5,7`.
pub fn intervals(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut found: Vec<(i64, i64)> = Vec::new();
    if text.is_empty() {
        return Ok(found);
    }
    for part in text.split(',') {
        let limits: Vec<&str> = part.split('-').collect();
        let (first, last) = match limits[..] {
            [only] => (index(only, completions)?, None),
            [first, last] => (index(first, completions)?, Some(index(last, completions)?)),
            _ => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        let order = |previous: i64, current: i64| format!("non-increasing order, previous: {previous}, current: {current}");
        if let Some(last) = last.filter(|last| first >= *last) {
            return Err(order(first, last));
        }
        if let Some((_, before)) = found.last().filter(|(_, before)| *before >= first) {
            return Err(order(*before, first));
        }
        found.push((first, last.unwrap_or(first)));
    }
    Ok(found)
}

fn index(text: &str, completions: i64) -> Result<i64, String> {
    let index = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
    if index >= completions { Err(format!("too large index: {text:?}")) } else { Ok(index) }
}

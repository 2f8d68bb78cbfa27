//! Horizontal pod autoscalers: what they scale, by what they measure, and how fast.

mod metrics;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::Field;
use crate::{
    meta::{Object, names, quantity},
    resources::tree::{int, items, text},
    status::FieldError,
};

const LONGEST_PERIOD: i64 = 1800;
const LONGEST_WINDOW: i64 = 3600;
const SELECT_POLICIES: [&str; 3] = ["Disabled", "Max", "Min"];
const SCALING_POLICIES: [&str; 2] = ["Percent", "Pods"];

/// Which `apiVersion`s a reference may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// One that names a group.
    WithGroup,
    /// Also that of the core group.
    Core,
    /// It was stored with this one, or with a wrong one.
    Any,
}

/// Checks an autoscaler, new or changed; `old` is what it replaces.
pub fn check(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    replicas(&mut errors, &spec);
    reference(&mut errors, &spec.child("scaleTargetRef"), target_version(object, old));
    metrics::check(&mut errors, &spec, object_version(old));
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.child("behavior");
        if rules.child(direction).is_set() {
            scaling_rules(&mut errors, &rules.child(direction));
        }
    }
    errors
}

/// Checks the status of an autoscaler.
pub fn status(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::root("status", object.get(&["status"]).unwrap_or(&Value::Null));
    for field in ["currentReplicas", "desiredReplicas"] {
        status.child(field).check_non_negative(&mut errors);
    }
    errors
}

/// Whether there may be no replicas at all, the kind's withheld values say.
fn replicas(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (min, max) = (spec.child("minReplicas"), spec.child("maxReplicas"));
    if min.number().is_some_and(|number| number < 0) {
        errors.push(min.invalid("must be greater than or equal to 0"));
    }
    match max.int() {
        0 => errors.push(max.required("must be set and greater than 0")),
        ..0 => errors.push(max.invalid("must be greater than or equal to 1")),
        _ => {}
    }
    if min.number().is_some_and(|min| max.int() < min) {
        errors.push(max.invalid_as(max.int(), "must be greater than or equal to `minReplicas`"));
    }
}

fn target_version(new: &Object, old: Option<&Object>) -> Version {
    let part = |object: &Object, name: &str| object.str(&["spec", "scaleTargetRef", name]).to_owned();
    let unchanged = old.is_some_and(|old| ["apiVersion", "kind"].into_iter().all(|name| part(old, name) == part(new, name)));
    if unchanged {
        Version::Any
    } else if part(new, "kind") == "ReplicationController" {
        Version::Core
    } else {
        Version::WithGroup
    }
}

/// Metrics of objects with a wrong version stay as they are.
fn object_version(old: Option<&Object>) -> Version {
    let is_wrong = |metric: &Value| {
        let version = text(metric, &["object", "describedObject", "apiVersion"]);
        text(metric, &["type"]) == "Object" && version_fault(version, Version::Core).is_some()
    };
    let has_wrong = old.is_some_and(|old| old.list(&["spec", "metrics"]).iter().any(is_wrong));
    if has_wrong { Version::Any } else { Version::Core }
}

fn version_fault(version: &str, allowed: Version) -> Option<String> {
    let (count, group) = (version.matches('/').count(), version.split_once('/').map_or("", |(group, _)| group));
    match allowed {
        Version::Any => None,
        _ if count > 1 => Some(format!("unexpected GroupVersion string: {version}")),
        Version::WithGroup if group.is_empty() => Some("apiVersion must specify API group".to_owned()),
        _ => None,
    }
}

/// A reference to an object; its parts become segments of a path.
fn reference(errors: &mut Vec<FieldError>, reference: &Field<'_>, allowed: Version) {
    for name in ["kind", "name"] {
        reference.child(name).check_required_name(errors, names::path_segment);
    }
    let version = reference.child("apiVersion");
    if let Some(fault) = version_fault(version.text(), allowed) {
        errors.push(version.invalid_as(version.text(), fault));
    }
}

fn scaling_rules(errors: &mut Vec<FieldError>, rules: &Field<'_>) {
    let window = rules.child("stabilizationWindowSeconds");
    if window.int() < 0 {
        errors.push(window.invalid("must be greater than or equal to zero"));
    }
    at_most(errors, &window, LONGEST_WINDOW);
    rules.child("selectPolicy").check_supported(errors, &SELECT_POLICIES);
    let policies = rules.child("policies");
    if items(policies.value, &[]).is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    policies.each().for_each(|policy| scaling_policy(errors, &policy));
    let tolerance = rules.child("tolerance");
    if quantity::value_nanos(tolerance.value).is_some_and(|amount| amount < 0) {
        errors.push(tolerance.invalid("must be greater than or equal to 0"));
    }
}

fn scaling_policy(errors: &mut Vec<FieldError>, policy: &Field<'_>) {
    let kind = policy.child("type");
    if !SCALING_POLICIES.contains(&kind.text()) {
        errors.push(FieldError::not_supported(kind, kind.text(), &SCALING_POLICIES));
    }
    for field in ["value", "periodSeconds"] {
        if int(policy.value, &[field]) <= 0 {
            let field = policy.child(field);
            errors.push(field.invalid_as(field.int(), "must be greater than zero"));
        }
    }
    at_most(errors, &policy.child("periodSeconds"), LONGEST_PERIOD);
}

fn at_most(errors: &mut Vec<FieldError>, number: &Field<'_>, most: i64) {
    if number.int() > most {
        errors.push(number.invalid(format!("must be less than or equal to {most}")));
    }
}

//! Bindings of admission policies: which policy, with which parameters, and what follows.

use std::collections::HashSet;

use serde_json::Value;

use super::rules;
use crate::{
    meta::{Object, names},
    resources::validation::{Field, labels},
    status::FieldError,
};

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const NOT_FOUND_ACTIONS: [&str; 2] = ["Deny", "Allow"];

/// Checks a `ValidatingAdmissionPolicyBinding`.
pub fn validating(object: &Object) -> Vec<FieldError> {
    let (mut errors, spec) = (Vec::new(), spec(object));
    common(&mut errors, &spec);
    actions(&mut errors, &spec.child("validationActions"));
    errors
}

/// Checks a `MutatingAdmissionPolicyBinding`.
pub fn mutating(object: &Object) -> Vec<FieldError> {
    let (mut errors, spec) = (Vec::new(), spec(object));
    common(&mut errors, &spec);
    rules::mutating_operations(&mut errors, &spec.child("matchResources"));
    errors
}

fn spec(object: &Object) -> Field<'_> {
    Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null))
}

fn common(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    spec.child("policyName").check_required_name(errors, names::subdomain);
    if spec.child("paramRef").is_set() {
        parameters(errors, &spec.child("paramRef"));
    }
    if spec.child("matchResources").is_set() {
        rules::match_resources(errors, &spec.child("matchResources"));
    }
}

fn parameters(errors: &mut Vec<FieldError>, reference: &Field<'_>) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.child("name"), reference.child("selector"));
    let (named, selected) = (!name.text().is_empty(), selector.is_set());
    name.check_name(errors, names::path_segment);
    if named && selected {
        errors.push(name.forbidden(EXCLUSIVE));
    }
    labels::selector(errors, &selector.to_string(), selector.value);
    if named && selected {
        errors.push(selector.forbidden(EXCLUSIVE));
    }
    if !named && !selected {
        errors.push(reference.required("one of name or selector must be specified"));
    }
    reference.child("parameterNotFoundAction").check_one_of(errors, &NOT_FOUND_ACTIONS);
}

fn actions(errors: &mut Vec<FieldError>, list: &Field<'_>) {
    let mut seen = HashSet::new();
    for action in list.each() {
        action.check_supported(errors, &ACTIONS);
        if !seen.insert(action.text()) {
            errors.push(action.duplicate());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "repeating the same validation failure information in the API response and headers serves no purpose";
        errors.push(list.invalid(format!("must not contain both Deny and Warn ({why})")));
    }
    if seen.is_empty() {
        errors.push(list.required("at least one validation action is required"));
    }
}

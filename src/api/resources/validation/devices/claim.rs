//! Resource claims, and templates for them: what is asked for.

use serde_json::Value;

use super::{
    super::{Field, IMMUTABLE, metadata},
    MOST, config,
    constraints::{self, RequestNames},
    fits, identifiers, taints, unique_names,
};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

const MOST_ALTERNATIVES: usize = 8;

fn spec_of(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

fn unchanged(new: &Object, old: &Object) -> Vec<FieldError> {
    let (new, old) = (spec_of(new), spec_of(old));
    if new == old { Vec::new() } else { vec![FieldError::invalid("spec", new.clone(), IMMUTABLE)] }
}

/// Checks a new claim.
pub fn claim(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    spec(&mut errors, &Field::root("spec", spec_of(object)));
    errors
}

/// Checks the update of a claim. Its spec cannot change: nothing else of it is worth a word.
pub fn claim_update(new: &Object, old: &Object) -> Vec<FieldError> {
    unchanged(new, old)
}

/// Checks a new template.
pub fn template(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let template = Field::root("spec", spec_of(object));
    metadata::of_template(&mut errors, &template.child("metadata"));
    spec(&mut errors, &template.child("spec"));
    errors
}

/// Checks the update of a template.
pub fn template_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = template(new);
    errors.extend(unchanged(new, old));
    errors
}

fn spec(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let devices = spec.child("devices");
    let names = RequestNames::of(&devices);
    let requests = devices.child("requests");
    if fits(errors, &requests, MOST) {
        requests.each().for_each(|entry| request(errors, &entry));
        unique_names(errors, &requests);
    }
    let constraints = devices.child("constraints");
    if fits(errors, &constraints, MOST) {
        constraints.each().for_each(|entry| constraints::constraint(errors, &entry, &names));
    }
    let configs = devices.child("config");
    if fits(errors, &configs, MOST) {
        for entry in configs.each() {
            names.references(errors, &entry.child("requests"));
            config::configuration(errors, &entry, false);
        }
    }
}

fn request(errors: &mut Vec<FieldError>, request: &Field<'_>) {
    identifiers::label(errors, &request.child("name"));
    let (exactly, alternatives) = (request.child("exactly"), request.child("firstAvailable"));
    match (exactly.is_set(), !alternatives.items().is_empty()) {
        (false, false) => errors.push(request.required("exactly one of `exactly` or `firstAvailable` is required")),
        (true, true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(request.invalid_as(Value::Null, detail));
        }
        (true, false) => devices(errors, &exactly),
        (false, true) => {
            if fits(errors, &alternatives, MOST_ALTERNATIVES) {
                for alternative in alternatives.each() {
                    identifiers::label(errors, &alternative.child("name"));
                    devices(errors, &alternative);
                }
                unique_names(errors, &alternatives);
            }
        }
    }
}

/// How many devices of which class are asked for.
fn devices(errors: &mut Vec<FieldError>, request: &Field<'_>) {
    request.child("deviceClassName").check_required_name(errors, names::subdomain);
    config::selectors(errors, &request.child("selectors"));
    let (mode, count) = (request.child("allocationMode"), request.child("count"));
    match mode.text() {
        "All" if count.int() != 0 => errors.push(count.invalid("must not be specified when allocationMode is 'All'")),
        "ExactCount" if count.int() <= 0 => errors.push(count.invalid_as(count.int(), "must be greater than zero")),
        "All" | "ExactCount" => {}
        other => errors.push(mode.with(&other.into()).not_supported(&["All", "ExactCount"])),
    }
    taints::tolerations(errors, &request.child("tolerations"));
}

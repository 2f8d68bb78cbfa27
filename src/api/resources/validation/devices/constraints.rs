//! What the devices of several requests have in common, and how requests are named elsewhere in a claim.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{super::Field, MOST, fits, identifiers, unique_texts};
use crate::{
    resources::tree::{items, text},
    status::FieldError,
};

const NOT_A_REQUEST: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// The requests of a claim, and the alternatives that each of them has.
#[derive(Debug, Default)]
pub struct RequestNames<'a> {
    names: HashMap<&'a str, HashSet<&'a str>>,
}

impl<'a> RequestNames<'a> {
    /// Of the `devices` of a claim's spec.
    pub fn of(devices: &Field<'a>) -> Self {
        let name = |request: &'a Value| text(request, &["name"]);
        let alternatives = |request| items(request, &["firstAvailable"]).iter().map(name).collect();
        let requests = items(devices.value, &["requests"]);
        // Of two requests of one name the last one counts.
        RequestNames { names: requests.iter().map(|request| (name(request), alternatives(request))).collect() }
    }

    fn has(&self, reference: &str) -> bool {
        match reference.split_once('/') {
            None => self.names.contains_key(reference),
            Some((request, alternative)) => self.names.get(request).is_some_and(|alternatives| alternatives.contains(alternative)),
        }
    }

    /// Checks the name of a request, or of one of its alternatives.
    pub fn reference(&self, errors: &mut Vec<FieldError>, reference: &Field<'_>) {
        let text = reference.text();
        if text.matches('/').count() > 1 {
            return errors.push(reference.invalid_as(text, NOT_A_REQUEST));
        }
        for segment in text.split('/') {
            identifiers::label(errors, &reference.with(&segment.into()));
        }
        if !self.has(text) {
            errors.push(reference.invalid_as(text, NOT_A_REQUEST));
        }
    }

    /// Checks a list of such names.
    pub fn references(&self, errors: &mut Vec<FieldError>, list: &Field<'_>) {
        if fits(errors, list, MOST) {
            list.each().for_each(|reference| self.reference(errors, &reference));
            unique_texts(errors, list);
        }
    }
}

/// Checks a constraint.
pub fn constraint(errors: &mut Vec<FieldError>, constraint: &Field<'_>, requests: &RequestNames<'_>) {
    requests.references(errors, &constraint.child("requests"));
    let (same, distinct) = (constraint.child("matchAttribute"), constraint.child("distinctAttribute"));
    if same.is_set() {
        identifiers::fully_qualified(errors, &same);
    } else if distinct.is_set() {
        identifiers::fully_qualified(errors, &distinct);
    } else {
        // The end of it is upstream's.
        let detail = r#"exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#;
        errors.push(constraint.required(detail));
    }
}

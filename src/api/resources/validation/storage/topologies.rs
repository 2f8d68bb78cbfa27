//! Where volumes of a class may be.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::super::Field;
use crate::status::FieldError;

/// Checks `allowedTopologies`: no two terms allow the same.
pub fn allowed(errors: &mut Vec<FieldError>, terms: &Field<'_>) {
    // A term without expressions is always one too many.
    let mut seen = HashSet::from([BTreeMap::new()]);
    for term in terms.each() {
        let expressions = term.child("matchLabelExpressions");
        let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for expression in expressions.each() {
            let allowed = requirement(errors, &expression);
            let key = expression.child("key");
            if values.insert(key.text().to_owned(), allowed).is_some() {
                errors.push(key.duplicate_as(key.text()));
            }
        }
        if !seen.insert(values) {
            errors.push(expressions.duplicate_as(""));
        }
    }
}

fn requirement(errors: &mut Vec<FieldError>, expression: &Field<'_>) -> BTreeSet<String> {
    let (key, values) = (expression.child("key"), expression.child("values"));
    if values.items().is_empty() {
        errors.push(values.required(""));
    }
    let mut seen = BTreeSet::new();
    for value in values.each() {
        if !seen.insert(value.text().to_owned()) {
            errors.push(value.duplicate());
        }
    }
    key.check_qualified(errors);
    seen
}

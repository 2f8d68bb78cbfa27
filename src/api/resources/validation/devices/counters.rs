//! Counters that the devices of a slice share, and what each device takes of them.

use super::{super::Field, fits, identifiers, map, quoted, unique};
use crate::status::FieldError;

const MOST_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;
const MOST_CONSUMPTIONS: usize = 2;
const LONGEST_NAME: usize = 63;

/// Checks `sharedCounters`.
pub fn shared(errors: &mut Vec<FieldError>, sets: &Field<'_>) {
    named_sets(errors, sets, MOST_SETS, "name");
}

/// Checks `consumesCounters`.
pub fn consumed(errors: &mut Vec<FieldError>, consumptions: &Field<'_>) {
    named_sets(errors, consumptions, MOST_CONSUMPTIONS, "counterSet");
}

fn named_sets(errors: &mut Vec<FieldError>, sets: &Field<'_>, most: usize, name_field: &str) {
    if !fits(errors, sets, most) {
        return;
    }
    for set in sets.each() {
        let name = set.child(name_field);
        match name.text() {
            "" => errors.push(name.required("")),
            _ => identifiers::label(errors, &name),
        }
        let counters = set.child("counters");
        if counters.value.as_object().is_none_or(|counters| counters.is_empty()) {
            errors.push(counters.required(""));
        }
        // Any amount will do.
        for (counter, ..) in map(errors, &counters, MOST_COUNTERS, LONGEST_NAME) {
            identifiers::label(errors, &counters.with(&counter.into()));
        }
    }
    unique(errors, sets, |set| quoted(set.child(name_field).text()));
}

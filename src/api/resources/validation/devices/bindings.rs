//! Conditions that a device must meet before a pod is bound, and those that say that it never will.

use std::collections::HashSet;

use serde_json::Value;

use super::{super::Field, fits, unique_texts};
use crate::status::FieldError;

const MOST: usize = 4;

/// Checks `bindingConditions` and `bindingFailureConditions` of a device or of its allocation.
pub fn conditions(errors: &mut Vec<FieldError>, owner: &Field<'_>) {
    let (good, bad) = (owner.child("bindingConditions"), owner.child("bindingFailureConditions"));
    let both_fit = [&good, &bad].map(|list| names_fit(errors, list)) == [true, true];
    if both_fit {
        unique_texts(errors, &good);
        unique_texts(errors, &bad);
        let wanted: HashSet<&str> = good.items().iter().filter_map(Value::as_str).collect();
        for condition in bad.each().filter(|condition| wanted.contains(condition.text())) {
            errors.push(condition.invalid("bindingFailureConditions must not overlap with bindingConditions"));
        }
    }
    if good.items().is_empty() && !bad.items().is_empty() {
        errors.push(good.invalid("bindingConditions are required to use bindingFailureConditions"));
    }
    if bad.items().is_empty() && !good.items().is_empty() {
        errors.push(bad.invalid("bindingFailureConditions are required to use bindingConditions"));
    }
}

fn names_fit(errors: &mut Vec<FieldError>, list: &Field<'_>) -> bool {
    let fit = fits(errors, list, MOST);
    if fit {
        list.each().for_each(|condition| condition.check_qualified(errors));
    }
    fit
}

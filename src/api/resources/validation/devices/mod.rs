//! Devices (resource.k8s.io): classes, claims, templates for claims, and slices of what drivers offer.
//!
//! Upstream's handwritten rules decide. Its declarative ones say the same again, and only have differences logged.
//! Expressions that select devices are compiled, and their costs estimated, when they are written.

mod allocation;
mod attributes;
mod bindings;
mod capacity;
mod claim;
mod claim_status;
mod class;
mod config;
mod constraints;
mod counters;
mod device;
mod identifiers;
mod interface;
mod pool_status;
mod slice;
mod taint_rule;
mod taints;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::Value;

use super::Field;
use crate::status::{FieldError, FieldErrorKind};

pub use claim::{claim, claim_update, template, template_update};
pub use claim_status::{claim_status_update, device_key};
pub use class::{class, class_update};
pub use pool_status::{pool_status, pool_status_request, pool_status_request_update};
pub use slice::{slice, slice_update};
pub use taint_rule::{taint_rule, taint_rule_status, taint_rule_update};

/// How many requests, constraints, configurations, selectors and allocated devices a list may have.
const MOST: usize = 32;

/// Whether a list is short enough. Of one that is not, nothing else is judged.
fn fits(errors: &mut Vec<FieldError>, list: &Field<'_>, most: usize) -> bool {
    let fits = list.items().len() <= most;
    if !fits {
        errors.push(list.too_many(most));
    }
    fits
}

/// The entries of a map that is small enough. They stand under their keys, of which an error shows the ends if they are long.
fn map<'a>(errors: &mut Vec<FieldError>, map: &'a Field<'_>, most: usize, longest_key: usize) -> Vec<(&'a str, String, &'a Value)> {
    let Some(entries) = map.value.as_object() else { return Vec::new() };
    if entries.len() > most {
        errors.push(FieldError::too_many(*map, entries.len(), most));
        return Vec::new();
    }
    entries.iter().map(|(key, value)| (key.as_str(), shortened(key, longest_key), value)).collect()
}

/// Both ends of a text that is too long to be shown.
fn shortened(text: &str, longest: usize) -> String {
    const DOTS: &str = "...";
    if text.len() <= longest {
        return text.to_owned();
    }
    let rest = longest - DOTS.len();
    let head = text.floor_char_boundary(rest.div_ceil(2));
    let tail = text.ceil_char_boundary(text.len() - rest / 2);
    format!("{}{DOTS}{}", &text[..head], &text[tail..])
}

/// Entries of a list whose key an earlier one has; a key is written as the error shows it.
fn unique(errors: &mut Vec<FieldError>, list: &Field<'_>, key: impl Fn(&Field<'_>) -> String) {
    let mut seen = HashSet::with_capacity(list.items().len());
    for entry in list.each() {
        let key = key(&entry);
        if seen.contains(&key) {
            errors.push(FieldError { kind: FieldErrorKind::Duplicate, field: entry.into(), value: Some(key), detail: String::new() });
        } else {
            seen.insert(key);
        }
    }
}

/// A text as an error shows it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Entries of a list of texts that stand there already.
fn unique_texts(errors: &mut Vec<FieldError>, list: &Field<'_>) {
    unique(errors, list, |entry| quoted(entry.text()));
}

/// Entries of a list of objects that have the name of an earlier one.
fn unique_names(errors: &mut Vec<FieldError>, list: &Field<'_>) {
    unique(errors, list, |entry| quoted(entry.child("name").text()));
}

//! What guards the API itself: webhook configurations, admission policies and their bindings.
//!
//! Expressions are compiled, so that none is stored that says nothing.

mod bindings;
pub mod environment;
mod expressions;
mod policies;
mod rules;
#[cfg(test)]
mod tests;
mod webhooks;

pub use bindings::{mutating as mutating_binding, validating as validating_binding};
pub use policies::{mutating as mutating_policy, status as policy_status, validating as validating_policy};
pub use webhooks::{create as webhooks, update as webhooks_update};

use super::Field;
use crate::status::FieldError;

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];

/// A text out of a set that must be there.
fn required_choice(errors: &mut Vec<FieldError>, field: &Field<'_>, choices: &[&str]) {
    match field.is_set() {
        true => field.check_supported(errors, choices),
        false => errors.push(field.required("")),
    }
}

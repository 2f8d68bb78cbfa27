//! Named expressions in webhooks and policies.

use std::collections::HashSet;

use super::match_conditions;
use crate::{
    expressions::syntax::is_reserved,
    resources::{
        tree::text,
        validation::{Field, names},
    },
    status::FieldError,
};

const MOST_CONDITIONS: usize = 64;

/// An expression with something in it.
pub(super) fn expression(errors: &mut Vec<FieldError>, field: &Field<'_>, detail: &str) {
    if field.text().trim().is_empty() {
        errors.push(field.required(detail));
    }
}

/// Conditions that a request must meet before anybody is asked. Those of webhooks are compiled.
pub(super) fn conditions_of_requests(errors: &mut Vec<FieldError>, list: &Field<'_>, of_webhook: bool) {
    if list.items().len() > MOST_CONDITIONS {
        errors.push(list.too_many(MOST_CONDITIONS));
    }
    let mut seen = HashSet::new();
    for condition in list.each() {
        let written = condition.child("expression");
        expression(errors, &written, "");
        // Who may do what is not asked in expressions yet: such a condition fails whenever it is evaluated.
        if of_webhook
            && !written.text().trim().is_empty()
            && !written.text().contains("authorizer")
            && let Err(why) = match_conditions::compile(written.text())
        {
            errors.push(written.invalid(why));
        }
        let name = condition.child("name");
        if name.text().is_empty() {
            errors.push(name.required(""));
            continue;
        }
        name.judge(errors, names::qualified(name.text()));
        if !seen.insert(text(condition.value, &["name"])) {
            errors.push(name.duplicate());
        }
    }
}

/// Expressions that others refer to by name.
pub(super) fn variables(errors: &mut Vec<FieldError>, list: &Field<'_>) {
    for variable in list.each() {
        let name = variable.child("name");
        if name.text().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            errors.push(name.invalid("must be a valid CEL identifier"));
        }
        expression(errors, &variable.child("expression"), "expression is not specified");
    }
}

fn is_identifier(name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && !name.starts_with(|first: char| first.is_ascii_digit()) && !is_reserved(name)
}

//! Named expressions in webhooks and policies.

use std::collections::HashSet;

use crate::{
    resources::{
        tree::text,
        validation::{Field, names},
    },
    status::FieldError,
};

const MOST_CONDITIONS: usize = 64;
/// Names that the expression language keeps for itself.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// An expression with something in it.
pub(super) fn expression(errors: &mut Vec<FieldError>, field: &Field<'_>, detail: &str) {
    if field.text().trim().is_empty() {
        errors.push(field.required(detail));
    }
}

/// Conditions that a request must meet before anybody is asked.
pub(super) fn match_conditions(errors: &mut Vec<FieldError>, list: &Field<'_>) {
    if list.items().len() > MOST_CONDITIONS {
        errors.push(list.too_many(MOST_CONDITIONS));
    }
    let mut seen = HashSet::new();
    for condition in list.each() {
        expression(errors, &condition.child("expression"), "");
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
    is_word && !name.starts_with(|first: char| first.is_ascii_digit()) && !RESERVED.contains(&name)
}

//! Named expressions in webhooks and policies.

use std::collections::HashSet;

use super::environment::{Compiler, Wanted};
use crate::{
    expressions::words::is_reserved,
    meta::names,
    resources::{tree::text, validation::Field},
    status::FieldError,
};

const MOST_CONDITIONS: usize = 64;

/// An expression with something in it.
pub(super) fn expression(errors: &mut Vec<FieldError>, field: &Field<'_>, detail: &str) {
    if field.text().trim().is_empty() {
        errors.push(field.required(detail));
    }
}

/// Conditions that a request must meet before anybody is asked.
pub(super) fn conditions_of_requests(errors: &mut Vec<FieldError>, list: &Field<'_>, has_params: bool) {
    if list.items().len() > MOST_CONDITIONS {
        errors.push(list.too_many(MOST_CONDITIONS));
    }
    let mut compiler = Compiler::new(has_params, false);
    let mut seen = HashSet::new();
    for condition in list.each() {
        let written = condition.child("expression");
        match written.text().trim() {
            "" => errors.push(written.required("")),
            text => compiled(errors, &written, text, compiler.compile(text, Wanted::Condition)),
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

/// What is wrong with an expression that is shown as `text`.
fn compiled<T>(errors: &mut Vec<FieldError>, field: &Field<'_>, text: &str, outcome: Result<T, String>) {
    if let Err(why) = outcome {
        errors.push(field.invalid_as(text, why));
    }
}

/// An expression of a policy that must be there, compiled as it is written.
pub(super) fn written(errors: &mut Vec<FieldError>, field: &Field<'_>, compiler: &mut Compiler, wanted: Wanted, detail: &str) {
    match field.text() {
        text if text.trim().is_empty() => errors.push(field.required(detail)),
        text => compiled(errors, field, text, compiler.compile(text, wanted)),
    }
}

/// The same of an expression that is compiled without what is around it.
pub(super) fn trimmed(errors: &mut Vec<FieldError>, field: &Field<'_>, compiler: &mut Compiler, wanted: Wanted) {
    match field.text().trim() {
        "" => errors.push(field.required("")),
        text => compiled(errors, field, text, compiler.compile(text, wanted)),
    }
}

/// Expressions that others refer to by name.
pub(super) fn variables(errors: &mut Vec<FieldError>, list: &Field<'_>, compiler: &mut Compiler) {
    for variable in list.each() {
        let name = variable.child("name");
        if name.text().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            errors.push(name.invalid("must be a valid CEL identifier"));
        }
        let expression = variable.child("expression");
        match expression.text() {
            text if text.trim().is_empty() => errors.push(expression.required("expression is not specified")),
            text => compiled(errors, &expression, text, compiler.variable(name.text(), text)),
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && !name.starts_with(|first: char| first.is_ascii_digit()) && !is_reserved(name)
}

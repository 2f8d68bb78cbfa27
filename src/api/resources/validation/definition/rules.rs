//! Rules in the expression language, looked at from outside.

use serde_json::Value;

use super::is_enough;
use crate::{
    resources::{custom::paths, validation::Field},
    status::FieldError,
};

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

fn has_newlines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// Checks the `x-kubernetes-validations` of a schema.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    let rules = schema.child("x-kubernetes-validations");
    for rule in rules.each() {
        if is_enough(errors) {
            return;
        }
        message(errors, &rule);
        let expression = rule.child("messageExpression");
        if !expression.text().is_empty() && expression.text().trim().is_empty() {
            errors.push(expression.required("messageExpression must be non-empty if specified"));
        }
        rule.child("reason").check_supported(errors, &REASONS);
        field_path(errors, &rule.child("fieldPath"), schema.value);
    }
}

fn message(errors: &mut Vec<FieldError>, rule: &Field<'_>) {
    let (expression, message) = (rule.child("rule"), rule.child("message"));
    let [rule_text, message_text] = [&expression, &message].map(|field| field.text().trim());
    if rule_text.is_empty() {
        errors.push(expression.required("rule is not specified"));
    } else if !message.text().is_empty() && message_text.is_empty() {
        errors.push(message.invalid("must be non-empty if specified"));
    } else if has_newlines(message_text) {
        errors.push(message.invalid("must not contain line breaks"));
    } else if has_newlines(rule_text) && message_text.is_empty() {
        errors.push(message.required("message must be specified if rule contains line breaks"));
    }
}

fn field_path(errors: &mut Vec<FieldError>, path: &Field<'_>, schema: &Value) {
    if path.text().is_empty() {
        return;
    }
    if path.text().trim().is_empty() {
        errors.push(path.invalid("must be non-empty if specified"));
    }
    if has_newlines(path.text()) {
        errors.push(path.invalid("must not contain line breaks"));
    }
    if paths::resolve(path.text(), schema, true).is_err() {
        errors.push(path.invalid("must be a valid path"));
    }
}

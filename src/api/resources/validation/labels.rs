//! Labels and label selectors.

use serde_json::Value;

use super::invalid_each;
use crate::{
    meta::names,
    resources::tree::{at, items, text},
    status::FieldError,
};

/// A map of labels.
pub fn labels(errors: &mut Vec<FieldError>, field: &str, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        invalid_each(errors, field, key, names::qualified(key));
        let value = value.as_str().unwrap_or("");
        invalid_each(errors, field, value, names::label_value(value));
    }
}

/// A `LabelSelector`.
pub fn selector(errors: &mut Vec<FieldError>, field: &str, selector: &Value) {
    labels(errors, &format!("{field}.matchLabels"), at(selector, &["matchLabels"]));
    for (index, expression) in items(selector, &["matchExpressions"]).iter().enumerate() {
        requirement(errors, &format!("{field}.matchExpressions[{index}]"), expression);
    }
}

/// A requirement of a `LabelSelector`.
pub fn requirement(errors: &mut Vec<FieldError>, field: &str, expression: &Value) {
    let values = items(expression, &["values"]);
    match text(expression, &["operator"]) {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(FieldError::required(format!("{field}.values"), "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(format!("{field}.values"), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(format!("{field}.operator"), other, "not a valid selector operator")),
    }
    let key = text(expression, &["key"]);
    invalid_each(errors, &format!("{field}.key"), key, names::qualified(key));
    for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
        invalid_each(errors, &format!("{field}.values[{index}]"), value, names::label_value(value));
    }
}

/// Whether a `LabelSelector` selects everything.
pub fn is_empty(selector: &Value) -> bool {
    crate::resources::tree::is_empty(selector, &["matchLabels"]) && crate::resources::tree::is_empty(selector, &["matchExpressions"])
}

/// Whether a `LabelSelector` matches a map of labels.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let exact = at(selector, &["matchLabels"]).as_object().into_iter().flatten().all(|(key, value)| label(key) == value.as_str());
    let listed =
        |expression: &Value, value: Option<&str>| items(expression, &["values"]).iter().any(|other| value.is_some() && other.as_str() == value);
    exact
        && items(selector, &["matchExpressions"]).iter().all(|expression| {
            let value = label(text(expression, &["key"]));
            match text(expression, &["operator"]) {
                "In" => listed(expression, value),
                "NotIn" => !listed(expression, value),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

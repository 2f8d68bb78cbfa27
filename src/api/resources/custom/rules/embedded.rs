//! The metadata of objects within custom resources (`apiextensions-apiserver/pkg/apiserver/schema/objectmeta/validation.go`).

use serde_json::Value;

use crate::{meta::names, status::FieldError};

/// What is wrong with it; a name it need not have.
pub(super) fn metadata(metadata: &Value, path: &str) -> Vec<FieldError> {
    if !metadata.is_object() {
        return vec![FieldError::invalid(path, metadata.clone(), "must be an object")];
    }
    let mut errors = Vec::new();
    let mut each = |field: &str, value: &str, faults: Vec<String>| {
        errors.extend(faults.into_iter().map(|why| FieldError::invalid(format!("{path}.{field}"), value, why)));
    };
    for (field, prefix) in [("generateName", true), ("name", false)] {
        let name = text(&metadata[field]);
        if !name.is_empty() {
            each(field, name, names::path_segment(name, prefix));
        }
    }
    let namespace = text(&metadata["namespace"]);
    if !namespace.is_empty() {
        each("namespace", namespace, names::label(namespace, false));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        each("labels", key, names::qualified(key));
        each("labels", text(value), names::label_value(text(value)));
    }
    for (key, _) in metadata["annotations"].as_object().into_iter().flatten() {
        each("annotations", key, names::qualified(&key.to_lowercase()));
    }
    errors
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

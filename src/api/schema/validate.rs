//! Structural checks: required fields must stand where their parents do.

use serde_json::{Map, Value};

use super::node::{Field, Kind, Schema, Struct};
use crate::{meta::Object, status::FieldError};

/// Required fields that are missing or empty, in field order. Status is left out: it is written by units, not by people.
/// Lists are left to the rules of their kind: Go writes an empty required list as null, and some kinds take that.
pub fn validate(schema: &Schema, object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(schema.root_struct(), object.root(), "", &mut errors);
    errors
}

fn check(holder: &Struct, fields: &Map<String, Value>, path: &str, errors: &mut Vec<FieldError>) {
    for field in holder.fields() {
        if path.is_empty() && &*field.name == "status" {
            continue;
        }
        let here = if path.is_empty() { field.name.to_string() } else { format!("{path}.{}", field.name) };
        let value = fields.get(&*field.name);
        if is_missing(field, value) {
            errors.push(FieldError::required(here, ""));
        } else if let Some(value) = value {
            descend(&field.node, value, &here, errors);
        }
    }
}

fn descend(node: &super::Node, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match (&node.kind, value) {
        (Kind::Struct(reference), Value::Object(fields)) => check(reference.get(), fields, path, errors),
        (Kind::List(item), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                descend(item, value, &format!("{path}[{index}]"), errors);
            }
        }
        (Kind::Map(node), Value::Object(entries)) => {
            for (key, value) in entries {
                descend(node, value, &format!("{path}[{key}]"), errors);
            }
        }
        _ => {}
    }
}

fn is_missing(field: &Field, value: Option<&Value>) -> bool {
    // An empty apiGroup means the core group.
    if !field.required || &*field.name == "apiGroup" {
        return false;
    }
    match (&field.node.kind, value) {
        (Kind::String, value) => value.is_none_or(|value| value.is_null() || value == ""),
        (Kind::Struct(_), value) => value.is_none_or(Value::is_null),
        _ => false,
    }
}

//! What the fields of a schema hold. Schemas below `items` and its like reach us undecoded, since a flag or a list may stand there.

use serde_json::Value;

use super::is_enough;
use crate::{
    resources::validation::Field,
    status::{FieldError, FieldErrorKind},
};

const TEXTS: [&str; 10] =
    ["id", "$schema", "$ref", "description", "type", "format", "title", "pattern", "x-kubernetes-list-type", "x-kubernetes-map-type"];
const FLAGS: [&str; 7] = [
    "exclusiveMaximum",
    "exclusiveMinimum",
    "uniqueItems",
    "nullable",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
];
const COUNTS: [&str; 6] = ["maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"];
const NUMBERS: [&str; 3] = ["maximum", "minimum", "multipleOf"];
const NAMES: [&str; 2] = ["required", "x-kubernetes-list-map-keys"];
const SCHEMA_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const SCHEMA_MAPS: [&str; 4] = ["properties", "definitions", "patternProperties", "dependencies"];
/// A schema, or something simpler.
const MIXED: [&str; 3] = ["items", "additionalProperties", "additionalItems"];

/// Finds what is of a wrong type, in a schema and in those within it.
pub(super) fn check_types(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    if is_enough(errors) {
        return;
    }
    let all = |names: &[&'static str], wanted: &str, fits: fn(&Value) -> bool, errors: &mut Vec<FieldError>| {
        for name in names {
            let field = schema.child(name);
            if field.is_set() && !fits(field.value) {
                errors.push(wrong(&field, wanted));
            }
        }
    };
    all(&TEXTS, "string", Value::is_string, errors);
    all(&FLAGS, "boolean", Value::is_boolean, errors);
    all(&COUNTS, "integer", |value| value.is_i64() || value.is_u64(), errors);
    all(&NUMBERS, "number", Value::is_number, errors);
    all(&NAMES, "array", |value| value.as_array().is_some_and(|names| names.iter().all(Value::is_string)), errors);
    all(&SCHEMA_LISTS, "array", Value::is_array, errors);
    all(&["enum", "x-kubernetes-validations"], "array", Value::is_array, errors);
    all(&SCHEMA_MAPS, "object", Value::is_object, errors);
    all(&["not", "externalDocs"], "object", Value::is_object, errors);
    all(&["items"], "object", |value| value.is_object() || value.is_array(), errors);
    all(&["additionalProperties", "additionalItems"], "object", |value| value.is_object() || value.is_boolean(), errors);
    within(errors, schema);
}

fn wrong(field: &Field<'_>, wanted: &str) -> FieldError {
    let detail = format!("must be of type {wanted}");
    FieldError { kind: FieldErrorKind::TypeInvalid, field: field.to_string(), value: Some(field.value.to_string()), detail }
}

fn within(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    for name in SCHEMA_LISTS.into_iter().chain(["items"]) {
        schema.child(name).each().for_each(|one| object(errors, &one));
    }
    for name in SCHEMA_MAPS {
        let map = schema.child(name);
        for (_, one) in map.entries().filter(|(_, one)| name != "dependencies" || !one.value.is_array()) {
            object(errors, &one);
        }
    }
    for name in MIXED.into_iter().chain(["not"]) {
        let one = schema.child(name);
        if one.value.is_object() {
            check_types(errors, &one);
        }
    }
}

fn object(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    match schema.value.is_object() {
        true => check_types(errors, schema),
        false if is_enough(errors) => {}
        false => errors.push(wrong(schema, "object")),
    }
}

//! Structural schemas: each field of an object has one type, said in one place, whatever else is said about its value.

use serde_json::{Map, Value};

use super::{is_enough, junctors};
use crate::{
    resources::{
        tree::{flag, is_empty, text},
        validation::Field,
    },
    status::FieldError,
};

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// What a schema describes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Checks that a schema is structural. Errors come in the order of their texts.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    let mut found = Vec::new();
    invariants(&mut found, schema, Level::Root);
    junctors::complete(&mut found, schema, schema);
    found.sort_by_cached_key(ToString::to_string);
    errors.append(&mut found);
}

fn invariants(errors: &mut Vec<FieldError>, schema: &Field<'_>, level: Level) {
    if is_enough(errors) {
        return;
    }
    let (items, values, properties) = (schema.child("items"), schema.child("additionalProperties"), schema.child("properties"));
    if text(schema.value, &["type"]) == "array" && !items.is_set() {
        errors.push(items.required("must be specified"));
    }
    if items.value.is_object() {
        invariants(errors, &items, Level::Item);
    }
    properties.entries().for_each(|(_, property)| invariants(errors, &property, Level::Field));
    if values.is_set() && level == Level::Root {
        errors.push(values.forbidden("must not be used at the root"));
    }
    if values.value.is_object() {
        invariants(errors, &values, Level::Field);
    }
    extensions(errors, schema);
    junctors::check(errors, schema);
    types(errors, schema, level);
    if flag(schema.value, &[EMBEDDED]) && values.is_set() {
        errors.push(values.forbidden("must not be used if x-kubernetes-embedded-resource is set"));
    }
    meta(errors, schema, level);
    if flag(schema.value, &[EMBEDDED]) && !flag(schema.value, &[PRESERVES]) && is_empty(schema.value, &["properties"]) {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(properties.required(detail));
    }
}

fn extensions(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    if !flag(schema.value, &[INT_OR_STRING]) {
        return;
    }
    for name in [PRESERVES, EMBEDDED] {
        if schema.child(name).is_true() {
            errors.push(schema.child(name).invalid("must be false if x-kubernetes-int-or-string is true"));
        }
    }
}

fn types(errors: &mut Vec<FieldError>, schema: &Field<'_>, level: Level) {
    let kind = schema.child("type");
    let untyped = flag(schema.value, &[INT_OR_STRING]) || flag(schema.value, &[PRESERVES]);
    if flag(schema.value, &[EMBEDDED]) && kind.text() != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.text().is_empty() { kind.required(detail) } else { kind.invalid(detail) });
    } else if kind.text().is_empty() && !untyped {
        errors.push(kind.required(match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        }));
    }
    if level == Level::Root && !kind.text().is_empty() && kind.text() != "object" {
        errors.push(kind.invalid("must be object at the root"));
    }
}

/// What every object has is described by the server.
fn meta(errors: &mut Vec<FieldError>, schema: &Field<'_>, level: Level) {
    let is_resource = level == Level::Root || flag(schema.value, &[EMBEDDED]);
    let properties = schema.child("properties");
    for name in ["kind", "apiVersion"] {
        let property = properties.key(name);
        let kind = property.child("type");
        if is_resource && property.is_set() && kind.text() != "string" {
            errors.push(kind.invalid_as(kind.text(), "must be string"));
        }
    }
    let metadata = properties.key("metadata");
    if !metadata.is_set() {
        return;
    }
    let kind = metadata.child("type");
    if is_resource && kind.text() != "object" {
        errors.push(kind.invalid_as(kind.text(), "must be object"));
    }
    if level == Level::Root && metadata.value.as_object().is_some_and(restricts_more_than_names) {
        errors.push(metadata.forbidden("must not specify anything other than name and generateName, but metadata is implicitly specified"));
    }
}

fn restricts_more_than_names(metadata: &Map<String, Value>) -> bool {
    let says_nothing = |name: &str, value: &Value| match name {
        "type" | "default" => true,
        "properties" => value.as_object().is_none_or(|fields| fields.keys().all(|name| name == "name" || name == "generateName")),
        _ => matches!(value, Value::Null | Value::Bool(false)) || is_empty(value, &[]),
    };
    !metadata.iter().all(|(name, value)| says_nothing(name, value))
}

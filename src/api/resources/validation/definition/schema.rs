//! Schemas of objects: what OpenAPI v3 allows of JSON schema, and Kubernetes' extensions of it.

use serde_json::Value;

use super::{defaults, expressions, is_enough, junctors, lists, rules, structural, value};
use crate::{
    resources::{
        tree::{at, flag, is_empty, text},
        validation::Field,
    },
    status::FieldError,
};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];
const FORBIDDEN_AT_ROOT: [&str; 21] = [
    "id",
    "$schema",
    "$ref",
    "default",
    "nullable",
    "maxProperties",
    "minProperties",
    "enum",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "additionalProperties",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];
const ALLOWED_AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// Checks what stands in `schema` of a version, or in `validation` of all.
pub(super) fn check(errors: &mut Vec<FieldError>, validation: &Field<'_>, with_status: bool) {
    let schema = validation.child("openAPIV3Schema");
    if !schema.is_set() {
        return;
    }
    let before = errors.len();
    value::check_types(errors, &schema);
    if errors.len() > before {
        return;
    }
    if with_status {
        root_with_status(errors, &schema);
    }
    if schema.child("nullable").is_true() {
        errors.push(schema.child("nullable").forbidden("nullable cannot be true at the root"));
    }
    let unsupported = junctors::unsupported(schema.value);
    if unsupported.is_none() {
        let judged = errors.len();
        structural::check(errors, &schema);
        if errors.len() == judged {
            defaults::check(errors, &schema);
        }
    }
    walk(errors, &schema, Place::default(), true);
    if errors.len() == before && unsupported.is_none() {
        expressions::check(errors, &schema);
    }
    if errors.len() == before && unsupported.is_none() {
        defaults::check_rules(errors, &schema);
    }
    if let Some(why) = unsupported.filter(|_| errors.len() == before) {
        errors.push(schema.invalid_as("", why));
    }
}

/// The status is validated by its own part of the schema, so nothing beside the parts may say anything about it.
fn root_with_status(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    let kind = schema.child("type");
    let says = |name: &&str| !is_empty(schema.value, &[name]) && at(schema.value, &[name]) != &Value::Bool(false);
    if !kind.text().is_empty() && kind.text() != "object" {
        errors.push(kind.invalid("only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled"));
    } else if FORBIDDEN_AT_ROOT.iter().any(says) {
        let detail = format!("only {ALLOWED_AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled");
        errors.push(schema.invalid(detail));
    }
}

/// Where in an object a schema applies.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    /// Why there may be no default.
    without_default: Option<&'a str>,
    inside_meta: bool,
}

fn walk(errors: &mut Vec<FieldError>, schema: &Field<'_>, place: Place<'_>, is_root: bool) {
    if is_enough(errors) {
        return;
    }
    standard(errors, schema, place);
    if schema.child("uniqueItems").is_true() {
        errors.push(schema.child("uniqueItems").forbidden("uniqueItems cannot be set to true since the runtime complexity becomes quadratic"));
    }
    additional_properties(errors, schema, place);
    properties(errors, schema, place, is_root);
    for name in ["not", "items"] {
        let one = schema.child(name);
        if one.value.is_object() {
            walk(errors, &one, place, false);
        }
    }
    for name in ["allOf", "oneOf", "anyOf", "items"] {
        schema.child(name).each().for_each(|one| walk(errors, &one, place, false));
    }
    for name in ["definitions", "dependencies"] {
        let map = schema.child(name);
        map.entries().filter(|(_, one)| one.value.is_object()).for_each(|(_, one)| walk(errors, &one, place, false));
    }
    let preserves = schema.child("x-kubernetes-preserve-unknown-fields");
    if preserves.value == &Value::Bool(false) {
        errors.push(preserves.invalid("must be true or undefined"));
    }
    lists::check(errors, schema);
    rules::check(errors, schema);
}

fn additional_properties(errors: &mut Vec<FieldError>, schema: &Field<'_>, place: Place<'_>) {
    let values = schema.child("additionalProperties");
    if !values.is_set() {
        return;
    }
    if !is_empty(schema.value, &["properties"]) && !values.is_true() {
        errors.push(values.forbidden("additionalProperties and properties are mutual exclusive"));
    }
    if !values.value.is_object() {
        return;
    }
    let inside = Place { without_default: Some("inside additionalProperties applying to object metadata"), ..place };
    walk(errors, &values, if place.inside_meta { inside } else { place }, false);
}

fn properties(errors: &mut Vec<FieldError>, schema: &Field<'_>, place: Place<'_>, is_root: bool) {
    let properties = schema.child("properties");
    for (name, property) in properties.entries() {
        let reason = format!("in top-level {name}");
        let mut inner = place;
        if (is_root || flag(schema.value, &["x-kubernetes-embedded-resource"])) && META.contains(&name) {
            inner.inside_meta = true;
            if is_root {
                inner.without_default = Some(&reason);
            }
        }
        walk(errors, &property, inner, false);
    }
}

/// What OpenAPI v3 has not.
fn standard(errors: &mut Vec<FieldError>, schema: &Field<'_>, place: Place<'_>) {
    let kind = schema.child("type");
    if !kind.text().is_empty() && !TYPES.contains(&kind.text()) {
        errors.push(kind.not_supported(&TYPES));
    }
    if let Some(reason) = place.without_default.filter(|_| schema.child("default").is_set()) {
        errors.push(schema.child("default").forbidden(format!("must not be set {reason}")));
    }
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let may_be_empty = matches!(name, "additionalItems" | "dependencies" | "$ref");
        let field = schema.child(name);
        if field.is_set() && (may_be_empty || !is_empty(schema.value, &[name])) {
            errors.push(field.forbidden(format!("{name} is not supported")));
        }
    }
    if text(schema.value, &["type"]) == "null" {
        errors.push(kind.forbidden("type cannot be set to null, use nullable as an alternative"));
    }
    if !schema.child("items").items().is_empty() {
        errors.push(schema.child("items").forbidden("items must be a schema object and not an array"));
    }
    let embedded = schema.child("x-kubernetes-embedded-resource");
    if place.inside_meta && embedded.is_true() {
        errors.push(embedded.forbidden("must not be used inside of resource meta"));
    }
}

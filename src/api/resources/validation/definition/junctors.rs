//! `allOf`, `anyOf`, `oneOf` and `not`: they say more of values, and nothing of their structure.

use serde_json::{Value, json};

use super::is_enough;
use crate::{
    pattern::syntax,
    resources::{
        tree::{at, is_empty, items},
        validation::Field,
    },
    status::FieldError,
};

/// What a schema within a junctor leaves to the structure, and how that is put.
const STRUCTURE: [(&str, &str); 12] = [
    ("type", "empty"),
    ("default", "undefined"),
    ("title", "empty"),
    ("description", "empty"),
    ("nullable", "false"),
    ("x-kubernetes-preserve-unknown-fields", "false"),
    ("x-kubernetes-embedded-resource", "false"),
    ("x-kubernetes-int-or-string", "false"),
    ("x-kubernetes-list-map-keys", "empty"),
    ("x-kubernetes-list-type", "undefined"),
    ("x-kubernetes-map-type", "undefined"),
    ("x-kubernetes-validations", "empty"),
];

/// Why a schema cannot be made structural at all.
pub(super) fn unsupported(schema: &Value) -> Option<String> {
    for name in ["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"] {
        let is_set = if name == "additionalItems" { !at(schema, &[name]).is_null() } else { !is_empty(schema, &[name]) };
        if is_set {
            return Some(format!("OpenAPIV3Schema '{}' is not supported", if name == "$schema" { "schema" } else { name }));
        }
    }
    if at(schema, &["x-kubernetes-preserve-unknown-fields"]) == &Value::Bool(false) {
        return Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned());
    }
    if !items(schema, &["items"]).is_empty() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    let single = ["not", "items", "additionalProperties"].into_iter().map(|name| at(schema, &[name]));
    let listed = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|name| items(schema, &[name]));
    let properties = at(schema, &["properties"]).as_object().into_iter().flat_map(|fields| fields.values());
    single.chain(listed).chain(properties).filter(|inner| inner.is_object()).find_map(unsupported)
}

/// An integer or a string, as everybody writes it.
fn is_int_or_string(schema: &Value) -> bool {
    at(schema, &["anyOf"]) == &json!([{"type": "integer"}, {"type": "string"}])
}

/// Checks the junctors of a structural schema.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    let in_all = items(schema.value, &["allOf"]).first().is_some_and(is_int_or_string);
    values(errors, schema, is_int_or_string(schema.value), in_all);
}

fn values(errors: &mut Vec<FieldError>, schema: &Field<'_>, skip_any: bool, skip_any_in_first: bool) {
    if !skip_any {
        schema.child("anyOf").each().for_each(|one| nested(errors, &one, false));
    }
    schema.child("allOf").each().enumerate().for_each(|(index, one)| nested(errors, &one, skip_any_in_first && index == 0));
    schema.child("oneOf").each().for_each(|one| nested(errors, &one, false));
    if schema.child("not").value.is_object() {
        nested(errors, &schema.child("not"), false);
    }
    let field = schema.child("pattern");
    if let Some(why) = Some(field.text()).filter(|text| !text.is_empty()).and_then(syntax::fault) {
        errors.push(field.invalid(format!("must be a valid regular expression, but isn't: {why}")));
    }
}

fn nested(errors: &mut Vec<FieldError>, schema: &Field<'_>, skip_any: bool) {
    if is_enough(errors) {
        return;
    }
    values(errors, schema, skip_any, false);
    let (items, fields, values) = (schema.child("items"), schema.child("properties"), schema.child("additionalProperties"));
    if items.value.is_object() {
        nested(errors, &items, false);
    }
    fields.entries().for_each(|(_, field)| nested(errors, &field, false));
    if values.is_set() && values.value != &Value::Bool(false) {
        errors.push(values.forbidden("must be undefined to be structural"));
    }
    for (name, words) in STRUCTURE {
        let field = schema.child(name);
        let says = match field.value {
            Value::Bool(flag) if name != "default" => *flag,
            Value::Null => false,
            _ => words == "undefined" || !is_empty(schema.value, &[name]),
        };
        if says {
            errors.push(field.forbidden(format!("must be {words} to be structural")));
        }
    }
    if fields.key("metadata").is_set() {
        errors.push(fields.key("metadata").forbidden("must not be specified in a nested context"));
    }
}

/// Checks that whatever junctors speak of is there in the structure.
pub(super) fn complete(errors: &mut Vec<FieldError>, schema: &Field<'_>, whole: &Field<'_>) {
    if schema.child("not").value.is_object() {
        within(errors, &schema.child("not"), whole);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        schema.child(name).each().for_each(|one| within(errors, &one, whole));
    }
}

fn within(errors: &mut Vec<FieldError>, schema: &Field<'_>, whole: &Field<'_>) {
    complete(errors, schema, whole);
    let items = schema.child("items");
    if items.value.is_object() {
        there(errors, &items, &whole.child("items"));
    }
    let (fields, own) = (schema.child("properties"), whole.child("properties"));
    fields.entries().for_each(|(name, field)| there(errors, &field, &own.key(name)));
}

fn there(errors: &mut Vec<FieldError>, schema: &Field<'_>, whole: &Field<'_>) {
    match whole.value.is_object() {
        true => within(errors, schema, whole),
        false if is_enough(errors) => {}
        false => errors.push(whole.required(format!("because it is defined in {schema}"))),
    }
}

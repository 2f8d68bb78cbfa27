//! Lists and maps of objects: what makes their entries one and the same over time.

use std::collections::HashSet;

use serde_json::Value;

use super::is_enough;
use crate::{
    resources::{
        tree::{self, flag, is_empty, text},
        validation::Field,
    },
    status::FieldError,
};

const LIST: &str = "x-kubernetes-list-type";
const KEYS: &str = "x-kubernetes-list-map-keys";
const MAP: &str = "x-kubernetes-map-type";

/// Checks the list and map extensions of a schema.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    let (list, map) = (schema.child(LIST), schema.child(MAP));
    if map.is_set() {
        type_for(errors, schema, "object", MAP);
    }
    map.check_supported(errors, &["atomic", "granular"]);
    if list.is_set() && !type_for(errors, schema, "array", LIST) && list.text() == "set" {
        atomic_items(errors, &schema.child("items"));
    }
    list.check_supported(errors, &["atomic", "set", "map"]);
    if !schema.child(KEYS).items().is_empty() && list.text() != "map" {
        const DETAIL: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(if list.is_set() { list.invalid(DETAIL) } else { list.required(DETAIL) });
    }
    if list.text() == "map" {
        keyed(errors, schema);
    }
    if matches!(list.text(), "set" | "map") {
        never_null(errors, schema, list.text());
    }
}

/// Says whether a schema is not of the type that an extension is for.
fn type_for(errors: &mut Vec<FieldError>, schema: &Field<'_>, wanted: &str, extension: &str) -> bool {
    let kind = schema.child("type");
    let detail = format!("must be {wanted} if {extension} is specified");
    match kind.text() {
        "" => errors.push(kind.required(detail)),
        text if text != wanted => errors.push(kind.invalid(detail)),
        _ => return false,
    }
    true
}

/// Entries of a set are equal or not; nothing in them is merged.
fn atomic_items(errors: &mut Vec<FieldError>, items: &Field<'_>) {
    const DETAIL: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let list = items.child(LIST);
    match items.child("type").text() {
        "array" if list.is_set() && list.text() != "atomic" => errors.push(list.invalid(DETAIL)),
        "object" if items.child(MAP).text() != "atomic" => errors.push(items.child(MAP).invalid_as(list.value.clone(), DETAIL)),
        _ => {}
    }
}

fn keyed(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    let (keys, items) = (schema.child(KEYS), schema.child("items"));
    if keys.items().is_empty() {
        errors.push(keys.required("must not be empty if x-kubernetes-list-type is map"));
    }
    match items.value {
        Value::Null => return errors.push(items.required("must have a schema if x-kubernetes-list-type is map")),
        Value::Object(_) => {}
        _ => return errors.push(items.invalid("must only have a single schema if x-kubernetes-list-type is map")),
    }
    let kind = items.child("type");
    if kind.text() != "object" {
        return errors.push(kind.invalid_as(kind.text(), "must be object if parent array's x-kubernetes-list-type is map"));
    }
    let properties = items.child("properties");
    let (mut seen, mut all_known, mut all_new) = (HashSet::new(), true, true);
    for key in keys.each() {
        let property = properties.key(key.text());
        all_known &= property.is_set();
        if matches!(text(property.value, &["type"]), "array" | "object") && !is_enough(errors) {
            errors.push(property.child("type").invalid_as("object", "must be a scalar type if parent array's x-kubernetes-list-type is map"));
        }
        all_new &= seen.insert(text(key.value, &[]));
    }
    // Each of these errors shows all keys: one is enough.
    if !all_known {
        errors.push(keys.invalid("entries must all be names of item properties"));
    }
    if !all_new {
        errors.push(keys.invalid("must not contain duplicate entries"));
    }
}

/// Entries, and what they are known by, are always there.
fn never_null(errors: &mut Vec<FieldError>, schema: &Field<'_>, list: &str) {
    let items = schema.child("items");
    if items.child("nullable").is_true() {
        errors.push(items.child("nullable").forbidden(format!("cannot be nullable when {LIST} is {list}")));
    }
    let required: HashSet<&str> = tree::items(items.value, &["required"]).iter().filter_map(Value::as_str).collect();
    let keys = schema.child(KEYS);
    for key in keys.each().filter(|_| list == "map" && !is_empty(items.value, &["properties"])) {
        let properties = items.child("properties");
        let property = properties.key(key.text());
        if !property.is_set() || is_enough(errors) {
            continue;
        }
        if !required.contains(key.text()) && !property.child("default").is_set() {
            let detail = format!("this property is in {KEYS}, so it must have a default or be a required property");
            errors.push(property.child("default").required(detail));
        }
        if flag(property.value, &["nullable"]) {
            errors.push(property.child("nullable").forbidden(format!("this property is in {KEYS}, so it cannot be nullable")));
        }
    }
}

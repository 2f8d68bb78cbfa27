//! Defaults in schemas: they hold only what the schema knows, and what it and its rules allow
//! (`apiextensions-apiserver/pkg/apiserver/schema/defaulting/validation.go`).
//!
//! The first fault of a default is told, so that no text is shown many times.

use serde_json::Value;

use super::is_enough;
use crate::{
    resources::{
        custom::{
            rules::Rules,
            validations::{MOST_PER_OBJECT, Place, Validations},
        },
        tree::{at, flag},
        validation::Field,
    },
    status::FieldError,
};

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// Checks all defaults of a structural schema; those of an object's metadata are for the server to judge.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    if has_default(schema.value) {
        walk(errors, schema, &Rules::new(schema.value), true);
    }
}

/// Tries the rules of a schema that is right in every other way on its defaults.
pub(super) fn check_rules(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    if !has_default(schema.value) {
        return;
    }
    let validations = Validations::new(schema.value);
    if let Some(root) = validations.root() {
        try_rules(errors, schema, root, &mut { MOST_PER_OBJECT });
    }
}

/// Whether a schema, or one within it that may have a default, has one.
fn has_default(schema: &Value) -> bool {
    let properties = at(schema, &["properties"]).as_object().into_iter().flat_map(|fields| fields.values());
    let inner = properties.chain([at(schema, &["items"])]);
    !at(schema, &["default"]).is_null() || inner.filter(|inner| inner.is_object()).any(has_default)
}

fn walk(errors: &mut Vec<FieldError>, schema: &Field<'_>, rules: &Rules, is_resource: bool) {
    if is_enough(errors) {
        return;
    }
    let default = schema.child("default");
    if default.is_set() {
        if has_unknown(default.value, schema.value, is_resource) {
            errors.push(default.invalid("must not have unknown fields"));
        }
        errors.extend(rules.check(default.value).into_iter().next().map(|fault| within(&default, fault)));
    }
    let items = schema.child("items");
    if let Some(rules) = rules.entries().filter(|_| items.value.is_object()) {
        walk(errors, &items, rules, flag(items.value, &[EMBEDDED]));
    }
    let properties = schema.child("properties");
    for (name, property) in properties.entries().filter(|(name, _)| !(is_resource && META.contains(name))) {
        if let Some(rules) = rules.property(name) {
            walk(errors, &property, rules, flag(property.value, &[EMBEDDED]));
        }
    }
}

fn try_rules(errors: &mut Vec<FieldError>, schema: &Field<'_>, place: &Place, budget: &mut u64) {
    if is_enough(errors) || *budget == 0 {
        return;
    }
    let default = schema.child("default");
    if default.is_set() {
        errors.extend(place.check_default(default.value, budget).into_iter().map(|fault| within(&default, fault)));
    }
    let items = schema.child("items");
    if let Some(place) = place.entries().filter(|_| items.value.is_object()) {
        try_rules(errors, &items, place, budget);
    }
    let properties = schema.child("properties");
    for (name, property) in properties.entries() {
        if let Some(place) = place.property(name) {
            try_rules(errors, &property, place, budget);
        }
    }
}

/// Whether a value has fields that would be dropped when it is stored.
fn has_unknown(value: &Value, schema: &Value, is_resource: bool) -> bool {
    let preserves = flag(schema, &["x-kubernetes-preserve-unknown-fields"]);
    match value {
        Value::Object(fields) => fields.iter().filter(|(name, _)| !(is_resource && META.contains(&name.as_str()))).any(|(name, value)| {
            let (property, values) = (at(schema, &["properties", name]), at(schema, &["additionalProperties"]));
            match (property, values) {
                (Value::Object(_), _) => has_unknown(value, property, flag(property, &[EMBEDDED])),
                (_, Value::Object(_)) => has_unknown(value, values, flag(values, &[EMBEDDED])),
                (_, Value::Null) => !preserves,
                _ => has_fields(value) && !preserves,
            }
        }),
        Value::Array(entries) => {
            let inner = at(schema, &["items"]);
            entries
                .iter()
                .any(|entry| if inner.is_object() { has_unknown(entry, inner, flag(inner, &[EMBEDDED])) } else { has_fields(entry) && !preserves })
        }
        _ => false,
    }
}

/// Whether there are fields in a value of which nothing is known.
fn has_fields(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(entries) => entries.iter().any(has_fields),
        _ => false,
    }
}

/// The default of a place and what stands below it, as a check of it names that.
fn within(default: &Field<'_>, fault: FieldError) -> FieldError {
    let field = match &*fault.field {
        "" | "<nil>" => default.to_string(),
        entry if entry.starts_with('[') => format!("{default}{entry}"),
        field => format!("{default}.{field}"),
    };
    FieldError { field, ..fault }
}

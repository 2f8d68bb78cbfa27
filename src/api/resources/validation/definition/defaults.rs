//! Defaults in schemas: they hold only what the schema knows, and what it allows.
//!
//! Patterns, formats, junctors and rules are not tried on them. The first fault of a default is told, so that no text is shown many times.

use serde_json::Value;

use super::{is_enough, junctors::type_of};
use crate::{
    resources::{
        custom::rules::type_name,
        tree::{at, flag, items},
        validation::Field,
    },
    status::{FieldError, FieldErrorKind},
};

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// Checks all defaults of a structural schema; those of an object's metadata are for the server to judge.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Field<'_>) {
    walk(errors, schema, true);
}

fn walk(errors: &mut Vec<FieldError>, schema: &Field<'_>, is_resource: bool) {
    if is_enough(errors) {
        return;
    }
    let default = schema.child("default");
    if default.is_set() {
        if has_unknown(default.value, schema.value, is_resource) {
            errors.push(default.invalid("must not have unknown fields"));
        }
        if let Some(fault) = fault(&default, "", schema.value) {
            errors.push(fault);
        }
    }
    let items = schema.child("items");
    if items.value.is_object() {
        walk(errors, &items, flag(items.value, &[EMBEDDED]));
    }
    let properties = schema.child("properties");
    for (_, property) in properties.entries().filter(|(name, _)| !(is_resource && META.contains(name))) {
        walk(errors, &property, flag(property.value, &[EMBEDDED]));
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

/// The first fault of a value; `name` is its path below the default.
fn fault(default: &Field<'_>, name: &str, schema: &Value) -> Option<FieldError> {
    let value = default.value;
    if value.is_null() && flag(schema, &["nullable"]) {
        return None;
    }
    let (wanted, found) = (type_of(schema), type_name(value));
    let fits = match wanted {
        "" if flag(schema, &["x-kubernetes-int-or-string"]) => matches!(found, "integer" | "string"),
        "" => true,
        "number" => matches!(found, "number" | "integer"),
        wanted => wanted == found,
    };
    if !fits {
        let wanted = if wanted.is_empty() { "integer,string" } else { wanted };
        let detail = format!("{name} in body must be of type {wanted}: {found:?}");
        return Some(FieldError { kind: FieldErrorKind::TypeInvalid, field: default.to_string(), value: Some(format!("{found:?}")), detail });
    }
    unlisted(default, name, schema).or_else(|| bounds(default, name, schema)).or_else(|| inner(default, name, schema))
}

/// Long lists are not searched for each entry of another list.
const MOST_CHOICES: usize = 100;

fn unlisted(default: &Field<'_>, name: &str, schema: &Value) -> Option<FieldError> {
    let allowed = items(schema, &["enum"]);
    if allowed.is_empty() || !name.is_empty() && allowed.len() > MOST_CHOICES || allowed.contains(default.value) {
        return None;
    }
    let names: Vec<String> = allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
    Some(default.not_supported(&names.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn bounds(default: &Field<'_>, name: &str, schema: &Value) -> Option<FieldError> {
    let count = |field: &str| at(schema, &[field]).as_u64().and_then(|count| usize::try_from(count).ok());
    let too_few = |field: &str, length: usize, words: &dyn Fn(usize) -> String| {
        let least = count(field).filter(|least| length < *least)?;
        Some(default.invalid(format!("{name} in body should {}", words(least))))
    };
    match default.value {
        Value::Number(number) => range(default, name, schema, number.as_f64().unwrap_or(0.0)),
        Value::String(text) => {
            let length = text.chars().count();
            let most = count("maxLength").filter(|most| length > *most);
            most.map(|most| default.too_long(most)).or_else(|| too_few("minLength", length, &|least| format!("be at least {least} chars long")))
        }
        Value::Array(entries) => {
            let most = count("maxItems").filter(|most| entries.len() > *most);
            most.map(|most| default.too_many(most)).or_else(|| too_few("minItems", entries.len(), &|least| format!("have at least {least} items")))
        }
        _ => None,
    }
}

fn range(default: &Field<'_>, name: &str, schema: &Value, number: f64) -> Option<FieldError> {
    let limits = [("minimum", "exclusiveMinimum", 1.0, "greater"), ("maximum", "exclusiveMaximum", -1.0, "less")];
    limits.into_iter().find_map(|(bound, exclusive, sign, words)| {
        let limit = at(schema, &[bound]).as_f64()?;
        let (distance, strict) = ((number - limit) * sign, flag(schema, &[exclusive]));
        let or_equal = if strict { "" } else { " or equal to" };
        let is_outside = distance < 0.0 || strict && distance == 0.0;
        is_outside.then(|| default.invalid(format!("{name} in body should be {words} than{or_equal} {limit}")))
    })
}

fn inner(default: &Field<'_>, name: &str, schema: &Value) -> Option<FieldError> {
    let below = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    let (properties, values, entries) = (at(schema, &["properties"]), at(schema, &["additionalProperties"]), at(schema, &["items"]));
    if default.value.is_object() {
        let mut required = items(schema, &["required"]).iter().filter_map(Value::as_str);
        if let Some(missing) = required.find(|name| default.value.get(name).is_none()) {
            return Some(default.child(missing).required(""));
        }
    }
    for field in default.value.as_object().into_iter().flat_map(|fields| fields.keys()) {
        let property = at(properties, &[field]);
        let known = if property.is_object() { property } else { values };
        if let Some(fault) = Some(known).filter(|known| known.is_object()).and_then(|known| fault(&default.child(field), &below(field), known)) {
            return Some(fault);
        }
    }
    if !entries.is_object() {
        return None;
    }
    default.each().enumerate().find_map(|(index, entry)| fault(&entry, &format!("{name}[{index}]"), entries))
}

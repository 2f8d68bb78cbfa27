//! Flow schemas and priority levels. Two of each kind are the server's own: whoever changes them would lock all others out.

mod levels;
mod schemas;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::{Map, Value};

pub use levels::check as level;
pub use schemas::check as schema;

use super::Field;
use crate::{
    meta::Object,
    resources::{flow_bootstrap, tree::text},
    status::FieldError,
};

const EXEMPT: &str = "exempt";
const MANDATORY: [&str; 2] = [EXEMPT, "catch-all"];

/// Checks the status of either kind.
pub fn status(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let conditions = Field::root("status.conditions", object.get(&["status", "conditions"]).unwrap_or(&Value::Null));
    let mut types = HashSet::new();
    for condition in conditions.each() {
        let kind = condition.child("type");
        if !types.insert(text(condition.value, &["type"])) {
            errors.push(kind.duplicate_as(kind.text()));
        }
        kind.check_required(&mut errors);
    }
    errors
}

/// The spec that an object of this name must have, whoever writes it.
fn fixed_spec(object: &Object) -> Option<Value> {
    if !MANDATORY.contains(&object.name()) {
        return None;
    }
    let own = flow_bootstrap::objects().into_iter().find(|own| own.kind() == object.kind() && own.name() == object.name())?;
    own.get(&["spec"]).cloned()
}

/// Whether two trees say the same; what is empty says nothing.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let within = |one: &Map<String, Value>, other: &Map<String, Value>| {
                one.iter().all(|(name, value)| equal(value, other.get(name).unwrap_or(&Value::Null)))
            };
            within(one, other) && within(other, one)
        }
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other)),
        (one, other) => one == other || is_nothing(one) && is_nothing(other),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

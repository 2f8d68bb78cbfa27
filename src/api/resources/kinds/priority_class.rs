//! Priority classes.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, boolean, integer, name, string},
        resource::age_of,
        tree::fill,
    },
    status::FieldError,
};

const SYSTEM_PREFIX: &str = "system-";
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// The rules of priority classes.
#[derive(Default)]
pub struct PriorityClass;

impl Strategy for PriorityClass {
    fn default_object(&self, object: &mut Object) {
        let root = object.root_mut();
        fill(root, "preemptionPolicy", "PreemptLowerPriority");
        root.entry("value").or_insert_with(|| 0.into());
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        let (name, value) = (object.name(), object.int(&["value"]).unwrap_or(0));
        let mut errors = Vec::new();
        if name.starts_with(SYSTEM_PREFIX) && !SYSTEM.contains(&(name, value)) {
            let detail = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            let why = match SYSTEM.iter().find(|(known, _)| *known == name) {
                Some((known, wanted)) => format!("value of {known} PriorityClass must be {wanted}"),
                None => format!("{name} is not a known system priority class"),
            };
            errors.push(FieldError::forbidden("metadata.name", format!("{detail}{why}")));
        }
        if !name.starts_with(SYSTEM_PREFIX) && value > HIGHEST_USER_PRIORITY {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
            errors.push(FieldError::forbidden("value", detail));
        }
        errors
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if new.int(&["value"]) != old.int(&["value"]) {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        if new.str(&["preemptionPolicy"]) != old.str(&["preemptionPolicy"]) {
            errors.push(FieldError::invalid("preemptionPolicy", new.str(&["preemptionPolicy"]), "field is immutable"));
        }
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            integer("Value", "The integer value of this priority class."),
            boolean("Global-Default", "Whether pods without a class of their own take this one."),
            age(),
            string("PreemptionPolicy", "The policy for preempting pods with lower priority."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![
            object.name().into(),
            object.int(&["value"]).unwrap_or(0).into(),
            object.get(&["globalDefault"]).and_then(Value::as_bool).unwrap_or(false).into(),
            age_of(object, clock).into(),
            object.str(&["preemptionPolicy"]).into(),
        ]
    }
}

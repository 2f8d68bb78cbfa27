//! Priority classes.

use serde_json::Value;

use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, boolean, integer, name, string},
        resource::age_of,
        validation::priority_class,
    },
    status::FieldError,
};

/// The rules of priority classes.
#[derive(Default)]
pub struct PriorityClass;

impl Strategy for PriorityClass {
    fn default_object(&self, object: &mut Object) {
        let root = object.root_mut();
        root.entry("preemptionPolicy").or_insert_with(|| "PreemptLowerPriority".into());
        root.entry("value").or_insert_with(|| 0.into());
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    /// As upstream: it stays what it was at creation.
    fn spec_changed(&self, _new: &Object, _old: &Object) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        priority_class::class(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        priority_class::class_update(new, old)
    }

    fn undeletable(&self, name: &str) -> Option<&'static str> {
        priority_class::is_system(name).then_some("this is a system priority class and cannot be deleted")
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

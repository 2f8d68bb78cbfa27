//! Device classes.

use serde_json::Value;

use super::{
    super::{Field, resource_names},
    MOST, config, fits,
};
use crate::{meta::Object, status::FieldError};

/// Checks a new class.
pub fn class(object: &Object) -> Vec<FieldError> {
    checked(object, false)
}

/// Checks the update of a class.
pub fn class_update(new: &Object, old: &Object) -> Vec<FieldError> {
    checked(new, new.list(&["spec", "config"]) == old.list(&["spec", "config"]))
}

fn checked(object: &Object, stored_config: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    config::selectors(&mut errors, &spec.child("selectors"));
    let configs = spec.child("config");
    if fits(&mut errors, &configs, MOST) {
        configs.each().for_each(|entry| config::configuration(&mut errors, &entry, stored_config));
    }
    let resource = spec.child("extendedResourceName");
    if resource.is_set() && !resource_names::is_extended(resource.text()) {
        errors.push(resource.invalid("must be a valid extended resource name"));
    }
    errors
}

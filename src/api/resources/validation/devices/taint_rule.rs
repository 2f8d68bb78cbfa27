//! Rules that taint devices, and what is said of them.

use serde_json::Value;

use super::{
    super::{Field, conditions::conditions, pod::volume_sources::driver_name},
    identifiers, taints,
};
use crate::{meta::Object, status::FieldError};

const MOST_CONDITIONS: usize = 8;

/// Checks a new rule.
pub fn taint_rule(object: &Object) -> Vec<FieldError> {
    checked(object, None)
}

/// Checks the update of a rule.
pub fn taint_rule_update(new: &Object, old: &Object) -> Vec<FieldError> {
    checked(new, Some(old.str(&["spec", "taint", "effect"])))
}

fn checked(object: &Object, effect_before: Option<&str>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    let selector = spec.child("deviceSelector");
    let (driver, pool, device) = (selector.child("driver"), selector.child("pool"), selector.child("device"));
    if driver.is_set() {
        driver_name(&mut errors, &driver);
    }
    if pool.is_set() {
        identifiers::pool(&mut errors, &pool);
    }
    if device.is_set() {
        identifiers::label(&mut errors, &device);
    }
    let taint = spec.child("taint");
    let effect = taint.child("effect").text();
    taints::taint(&mut errors, &taint, effect_before != Some(effect));
    errors
}

/// Checks an update of what is said of a rule.
pub fn taint_rule_status(new: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::root("status", new.get(&["status"]).unwrap_or(&Value::Null));
    let told = status.child("conditions");
    conditions(&mut errors, &told);
    if told.items().len() > MOST_CONDITIONS {
        errors.push(told.too_many(MOST_CONDITIONS));
    }
    errors
}

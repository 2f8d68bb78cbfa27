//! Questions about pools of devices, and their answers. What upstream declares beside the fields decides.

use serde_json::Value;

use super::{
    super::{Field, IMMUTABLE, conditions::conditions},
    fits, identifiers,
};
use crate::{
    meta::{Object, names},
    resources::tree::at,
    status::FieldError,
};

const MOST_POOLS: usize = 1000;
const MOST_CONDITIONS: usize = 10;
/// In bytes.
const LONGEST_ERROR: usize = 256;

/// Checks a new question.
pub fn pool_status_request(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    driver(&mut errors, &spec.child("driver"));
    let (pool, limit) = (spec.child("poolName"), spec.child("limit"));
    if pool.is_set() && pool.text().is_empty() {
        errors.push(pool.invalid("segment 0: must not be empty"));
    } else if pool.is_set() {
        identifiers::pool(&mut errors, &pool);
    }
    at_least(&mut errors, &limit, 1);
    if limit.number().is_some_and(|limit| usize::try_from(limit).is_ok_and(|limit| limit > MOST_POOLS)) {
        errors.push(limit.invalid(format!("must be less than or equal to {MOST_POOLS}")));
    }
    errors
}

/// Checks the update of a question: it stays as it is.
pub fn pool_status_request_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let spec = Field::root("spec", new.get(&["spec"]).unwrap_or(&Value::Null));
    let is_same = spec.value == old.get(&["spec"]).unwrap_or(&Value::Null);
    if is_same { Vec::new() } else { vec![spec.invalid_as(Value::Null, IMMUTABLE)] }
}

/// Checks an answer: there is one for good.
pub fn pool_status(new: &Object, old: &Object) -> Vec<FieldError> {
    let (status, before) = (new.get(&["status"]).unwrap_or(&Value::Null), old.get(&["status"]).unwrap_or(&Value::Null));
    let field = Field::root("status", status);
    if !before.is_null() {
        return if status == before { Vec::new() } else { vec![field.invalid_as(Value::Null, IMMUTABLE)] };
    }
    let mut errors = Vec::new();
    if status.is_null() {
        return errors;
    }
    let (told, count, pools) = (field.child("conditions"), field.child("poolCount"), field.child("pools"));
    conditions(&mut errors, &told);
    if told.items().len() > MOST_CONDITIONS {
        errors.push(told.too_many(MOST_CONDITIONS));
    }
    if !count.is_set() {
        errors.push(count.required(""));
    }
    at_least(&mut errors, &count, 0);
    if fits(&mut errors, &pools, MOST_POOLS) {
        pools.each().for_each(|one| pool(&mut errors, &one));
    }
    errors
}

fn pool(errors: &mut Vec<FieldError>, pool: &Field<'_>) {
    driver(errors, &pool.child("driver"));
    identifiers::pool(errors, &pool.child("poolName"));
    for count in ["generation", "totalDevices", "allocatedDevices", "availableDevices", "unavailableDevices"] {
        at_least(errors, &pool.child(count), 0);
    }
    at_least(errors, &pool.child("resourceSliceCount"), 1);
    if !at(pool.value, &["nodeName"]).is_null() {
        identifiers::node(errors, &pool.child("nodeName"));
    }
    let error = pool.child("validationError");
    if error.text().len() > LONGEST_ERROR {
        errors.push(error.too_long(LONGEST_ERROR));
    }
}

/// The name of a driver, however it is written.
fn driver(errors: &mut Vec<FieldError>, driver: &Field<'_>) {
    driver.check_required(errors);
    driver.check_name(errors, |name, is_prefix| names::subdomain(&name.to_lowercase(), is_prefix));
}

/// A number, where there is one.
fn at_least(errors: &mut Vec<FieldError>, number: &Field<'_>, least: i64) {
    if number.number().is_some_and(|number| number < least) {
        errors.push(number.invalid(format!("must be greater than or equal to {least}")));
    }
}

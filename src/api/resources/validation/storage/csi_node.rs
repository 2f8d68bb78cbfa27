//! What CSI drivers say about the nodes they run on.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{
    super::{Field, IMMUTABLE, pod::volume_sources::driver_name},
    root,
};
use crate::{
    meta::{Object, names},
    resources::tree::text,
    status::FieldError,
};

const LONGEST_ID: usize = 256;

/// Checks a new node.
pub fn node(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for entry in root(object, "spec").child("drivers").each() {
        let (name, id, count) = (entry.child("name"), entry.child("nodeID"), entry.child("allocatable"));
        driver_name(&mut errors, &name);
        id.check_required(&mut errors);
        if id.text().len() > LONGEST_ID {
            errors.push(id.invalid(format!("must be {LONGEST_ID} characters or less")));
        }
        count.child("count").check_non_negative(&mut errors);
        if !seen.insert(name.text().to_owned()) {
            errors.push(name.duplicate_as(name.text()));
        }
        topology_keys(&mut errors, &entry);
    }
    errors
}

/// Their errors name the driver.
fn topology_keys(errors: &mut Vec<FieldError>, driver: &Field<'_>) {
    let mut seen = HashSet::new();
    for key in driver.child("topologyKeys").items().iter().map(|key| key.as_str().unwrap_or_default()) {
        if key.is_empty() {
            errors.push(driver.required(""));
        }
        if !seen.insert(key) {
            errors.push(driver.duplicate_as(key));
        }
        errors.extend(names::qualified(key).into_iter().map(|message| driver.invalid_as(key, message)));
    }
}

/// Checks the update of a node. Of a driver that stands there already only the number of volumes may change.
pub fn node_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = node(new);
    let before = old.list(&["spec", "drivers"]).iter().map(|driver| (text(driver, &["name"]), without_count(driver)));
    let before: HashMap<&str, Value> = before.collect();
    for driver in new.list(&["spec", "drivers"]) {
        let driver = without_count(driver);
        if before.get(text(&driver, &["name"])).is_some_and(|before| *before != driver) {
            errors.push(FieldError::invalid("spec.drivers", driver, IMMUTABLE));
        }
    }
    errors
}

fn without_count(driver: &Value) -> Value {
    let mut driver = driver.clone();
    if let Some(fields) = driver.as_object_mut() {
        fields.remove("allocatable");
    }
    driver
}

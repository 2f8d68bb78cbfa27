//! Resource slices: what a driver offers, and on which nodes.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    super::{
        Field,
        pod::{node_selector, volume_sources::driver_name},
    },
    attributes, counters, device, fits, identifiers, unique_names,
};
use crate::{
    meta::Object,
    resources::tree::{at, is_empty, items, text},
    status::FieldError,
};

const MOST_DEVICES: usize = 128;
/// Where devices have taints, counters or lists of values.
const MOST_ELABORATE_DEVICES: usize = 64;
const ONE_PLACE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

/// Checks a new slice.
pub fn slice(object: &Object) -> Vec<FieldError> {
    checked(object, &Value::Null)
}

/// Checks the update of a slice.
pub fn slice_update(new: &Object, old: &Object) -> Vec<FieldError> {
    checked(new, old.get(&["spec"]).unwrap_or(&Value::Null))
}

fn checked(object: &Object, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    driver_name(&mut errors, &spec.child("driver"));
    pool(&mut errors, &spec.child("pool"));
    if !old.is_null() {
        spec.child("pool").child("name").check_unchanged(&mut errors, at(old, &["pool", "name"]));
        spec.child("driver").check_unchanged(&mut errors, at(old, &["driver"]));
        spec.child("nodeName").check_unchanged(&mut errors, at(old, &["nodeName"]));
    }
    places(&mut errors, &spec);
    if spec.child("sharedCounters").is_set() && spec.child("devices").is_set() {
        errors.push(spec.invalid_as("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    devices(&mut errors, &spec, items(old, &["devices"]));
    counters::shared(&mut errors, &spec.child("sharedCounters"));
    errors
}

fn pool(errors: &mut Vec<FieldError>, pool: &Field<'_>) {
    identifiers::pool(errors, &pool.child("name"));
    let (count, generation) = (pool.child("resourceSliceCount"), pool.child("generation"));
    if count.int() <= 0 {
        errors.push(count.invalid_as(count.int(), "must be greater than zero"));
    }
    if generation.int() < 0 {
        errors.push(generation.invalid("must be greater than or equal to zero"));
    }
}

/// The nodes that the devices can be used on.
fn places(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (name, selector) = (spec.child("nodeName"), spec.child("nodeSelector"));
    let mut places = Vec::new();
    if name.is_set() && name.text().is_empty() {
        errors.push(name.invalid("must be either unset or set to a non-empty string"));
    } else if name.is_set() {
        places.push("`nodeName`");
        identifiers::node(errors, &name);
    }
    if selector.is_set() {
        places.push("`nodeSelector`");
        node_selector(errors, &selector);
        let terms = selector.child("nodeSelectorTerms");
        if terms.items().len() != 1 {
            errors.push(terms.invalid("must have exactly one node selector term"));
        }
    }
    for (field, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        let flag = spec.child(field);
        if flag.is_true() {
            places.push(shown);
        } else if flag.is_set() {
            errors.push(flag.invalid("must be either unset or set to true"));
        }
    }
    match places.len() {
        0 => errors.push(spec.required(ONE_PLACE)),
        1 => {}
        _ => errors.push(spec.invalid_as(format!("{{{}}}", places.join(", ")), format!("{ONE_PLACE}, but multiple fields are set"))),
    }
}

fn devices(errors: &mut Vec<FieldError>, spec: &Field<'_>, old: &[Value]) {
    let devices = spec.child("devices");
    let is_elaborate = |device: &Value| !is_empty(device, &["taints"]) || !is_empty(device, &["consumesCounters"]) || attributes::has_lists(device);
    let most = if devices.items().iter().any(is_elaborate) { MOST_ELABORATE_DEVICES } else { MOST_DEVICES };
    if !fits(errors, &devices, most) {
        return;
    }
    // Of two devices of one name the first one counts.
    let old: HashMap<&str, &Value> = old.iter().rev().map(|device| (text(device, &["name"]), device)).collect();
    let per_device = spec.child("perDeviceNodeSelection").is_true();
    for entry in devices.each() {
        device::device(errors, &entry, old.get(entry.child("name").text()).copied(), per_device);
    }
    unique_names(errors, &devices);
}

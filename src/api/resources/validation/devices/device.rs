//! One device of a slice.

use serde_json::Value;

use super::{
    super::{Field, pod, resource_names},
    attributes, bindings, capacity, counters, identifiers, taints,
};
use crate::{
    meta::Quantity,
    resources::tree::{at, fields},
    status::FieldError,
};

const MOST_ATTRIBUTES: usize = 32;
const MOST_VALUES: usize = 48;
const ONE_PLACE: &str =
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
const NO_PLACE: &str =
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

/// Checks a device; `old` is the one of the same name in the slice as it was.
pub fn device(errors: &mut Vec<FieldError>, device: &Field<'_>, old: Option<&Value>, per_device: bool) {
    identifiers::label(errors, &device.child("name"));
    if amounts_fit(errors, device) {
        attributes::attributes(errors, &device.child("attributes"));
        capacity::capacity(errors, &device.child("capacity"), device.child("allowMultipleAllocations").is_true());
    }
    let taints = device.child("taints");
    // Those that stand are not judged again.
    if old.is_none_or(|old| at(old, &["taints"]) != taints.value) {
        taints::taints(errors, &taints);
    }
    counters::consumed(errors, &device.child("consumesCounters"));
    place(errors, device, per_device);
    bindings::conditions(errors, device);
    mappings(errors, device);
}

/// Whether no more is told about a device than may be. Of too much nothing is judged.
fn amounts_fit(errors: &mut Vec<FieldError>, device: &Field<'_>) -> bool {
    let size = |name| fields(device.value, &[name]).map_or(0, serde_json::Map::len);
    let (all, values) = (size("attributes") + size("capacity"), attributes::count_values(device.value));
    if all > MOST_ATTRIBUTES {
        errors.push(device.invalid_as(all, format!("the total number of attributes and capacities must not exceed {MOST_ATTRIBUTES}")));
    }
    if values > MOST_VALUES {
        errors.push(device.invalid_as(values, format!("the total number of attribute values must not exceed {MOST_VALUES}")));
    }
    all <= MOST_ATTRIBUTES && values <= MOST_VALUES
}

/// The nodes that a device can be used on, where its slice does not say it for all.
fn place(errors: &mut Vec<FieldError>, device: &Field<'_>, per_device: bool) {
    let (name, selector, all) = (device.child("nodeName"), device.child("nodeSelector"), device.child("allNodes"));
    if !per_device {
        if [&name, &selector, &all].iter().any(|field| field.is_set()) {
            errors.push(device.invalid_as(Value::Null, NO_PLACE));
        }
        return;
    }
    let mut places = Vec::new();
    if name.is_set() && name.text().is_empty() {
        errors.push(name.invalid("must not be empty"));
    } else if name.is_set() {
        places.push("`nodeName`");
        identifiers::node(errors, &name);
    }
    if selector.is_set() {
        places.push("`nodeSelector`");
        pod::node_selector(errors, &selector);
    }
    if all.is_true() {
        places.push("`allNodes`");
    } else if all.is_set() {
        errors.push(all.invalid("must be either unset or set to true"));
    }
    match places.len() {
        0 => errors.push(device.required(ONE_PLACE)),
        1 => {}
        _ => errors.push(device.invalid_as(format!("{{{}}}", places.join(", ")), ONE_PLACE)),
    }
}

/// What using a device takes of a node's own resources.
fn mappings(errors: &mut Vec<FieldError>, device: &Field<'_>) {
    for (name, mapping) in device.child("nodeAllocatableResourceMappings").entries() {
        if !resource_names::is_native(name) {
            errors.push(mapping.invalid_as(name, "must be a node allocatable resource name"));
        }
        let (multiplier, key) = (mapping.child("allocationMultiplier"), mapping.child("capacityKey"));
        if !multiplier.is_set() && !key.is_set() {
            errors.push(mapping.invalid_as("", "at least one of allocationMultiplier or capacityKey must be set"));
        }
        if Quantity::parse(multiplier.text()).is_ok_and(|amount| amount.sign() <= 0) {
            errors.push(multiplier.invalid("must be positive"));
        }
        if key.is_set() && key.text().is_empty() {
            errors.push(key.invalid("capacityKey must not be an empty string"));
        } else if key.is_set() && at(device.value, &["capacity", key.text()]).is_null() {
            errors.push(key.not_found(""));
        }
    }
}

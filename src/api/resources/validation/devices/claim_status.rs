//! What became of a claim: its devices, who may use them, and what their drivers say.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    super::{Field, IMMUTABLE, conditions::conditions as check_conditions, pod::volume_sources::driver_name},
    allocation,
    config::{self, LONGEST_PARAMETERS},
    constraints::RequestNames,
    fits, identifiers, interface, quoted, unique, unique_texts,
};
use crate::{
    meta::Object,
    resources::tree::{at, items, text},
    status::FieldError,
};

const MOST_CONSUMERS: usize = 256;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;
const LONGEST_INTERFACE: usize = 256;
const LONGEST_HARDWARE_ADDRESS: usize = 128;

/// What tells one allocated device, or one share of it, from all others; written as upstream shows it in errors.
pub fn device_key(device: &Value) -> String {
    let [driver, pool, name, share] = ["driver", "pool", "device", "shareID"].map(|field| quoted(text(device, &[field])));
    format!(r#"{{"Driver":{driver},"Pool":{pool},"Device":{name},"ShareID":{share}}}"#)
}

/// Checks a status update of a claim.
pub fn claim_status_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::root("status", new.get(&["status"]).unwrap_or(&Value::Null));
    let devices = Field::root("spec.devices", new.get(&["spec", "devices"]).unwrap_or(&Value::Null));
    consumers(&mut errors, &status.child("reservedFor"));
    device_statuses(&mut errors, &status);
    if !status.child("reservedFor").items().is_empty() {
        reservations(&mut errors, &status, new.is_terminating(), old.list(&["status", "reservedFor"]));
    }
    let allocation = status.child("allocation");
    let before = old.get(&["status", "allocation"]).unwrap_or(&Value::Null);
    match (before.is_null(), allocation.is_set()) {
        (_, false) => {}
        // One that stands is not judged again: the rules for new ones may be stricter.
        (false, true) if allocation.value == before => {}
        (false, true) => errors.push(allocation.invalid(IMMUTABLE)),
        (true, true) => allocation::allocation(&mut errors, &allocation, &RequestNames::of(&devices)),
    }
    errors
}

fn consumers(errors: &mut Vec<FieldError>, consumers: &Field<'_>) {
    if !fits(errors, consumers, MOST_CONSUMERS) {
        return;
    }
    for consumer in consumers.each() {
        for name in ["resource", "name", "uid"] {
            consumer.child(name).check_required(errors);
        }
    }
    unique(errors, consumers, |consumer| quoted(consumer.child("uid").text()));
}

/// A claim is reserved once it is allocated, and by nobody new when it is about to go.
fn reservations(errors: &mut Vec<FieldError>, status: &Field<'_>, is_terminating: bool, before: &[Value]) {
    let consumers = status.child("reservedFor");
    if !status.child("allocation").is_set() {
        return errors.push(consumers.forbidden("may not be specified when `allocated` is not set"));
    }
    let before: HashSet<&Value> = before.iter().collect();
    if is_terminating && consumers.items().iter().any(|consumer| !before.contains(consumer)) {
        errors.push(consumers.forbidden("new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"));
    }
}

fn device_statuses(errors: &mut Vec<FieldError>, status: &Field<'_>) {
    let results = items(at(status.value, &["allocation"]), &["devices", "results"]);
    let allocated: HashSet<String> = results.iter().map(device_key).collect();
    let devices = status.child("devices");
    for device in devices.each() {
        device_status(errors, &device, &allocated);
    }
    unique(errors, &devices, |device| device_key(device.value));
}

fn device_status(errors: &mut Vec<FieldError>, device: &Field<'_>, allocated: &HashSet<String>) {
    driver_name(errors, &device.child("driver"));
    identifiers::pool(errors, &device.child("pool"));
    identifiers::label(errors, &device.child("device"));
    allocation::share(errors, &device.child("shareID"));
    let key = device_key(device.value);
    if !allocated.contains(&key) {
        errors.push(FieldError { value: Some(key), ..device.invalid_as("", "must be an allocated device in the claim") });
    }
    let (conditions, data) = (device.child("conditions"), device.child("data"));
    if fits(errors, &conditions, MOST_CONDITIONS) {
        check_conditions(errors, &conditions);
    }
    if data.is_set() {
        config::raw(errors, &data, LONGEST_PARAMETERS);
    }
    network(errors, &device.child("networkData"));
}

fn network(errors: &mut Vec<FieldError>, network: &Field<'_>) {
    for (name, most) in [("interfaceName", LONGEST_INTERFACE), ("hardwareAddress", LONGEST_HARDWARE_ADDRESS)] {
        let text = network.child(name);
        if text.text().len() > most {
            errors.push(text.too_long(most));
        }
    }
    let addresses = network.child("ips");
    if fits(errors, &addresses, MOST_ADDRESSES) {
        addresses.each().for_each(|address| interface::address(errors, &address));
        unique_texts(errors, &addresses);
    }
}

//! Device classes, and claims for devices (resource.k8s.io).

use std::collections::HashSet;

use serde_json::Value;

use super::{empty_status, split_update_strictly};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, string},
        resource::{ALL_METADATA, age_of},
        tree::{Fields, child, descend, each, fill, fill_zero},
        validation::devices,
    },
    status::FieldError,
};

/// The rules of device classes.
#[derive(Default)]
pub struct DeviceClass;

impl Strategy for DeviceClass {
    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        devices::class(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        devices::class_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), age_of(object, clock).into()]
    }
}

/// The rules of resource claims.
#[derive(Default)]
pub struct ResourceClaim;

impl Strategy for ResourceClaim {
    fn default_object(&self, object: &mut Object) {
        default_requests(object.map_mut(&["spec"]));
        let Some(status) = child(object.root_mut(), "status") else { return };
        let Some(devices) = descend(status, &["allocation", "devices"]) else { return };
        each(devices, "results", default_tolerations);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update_strictly(new, old, context);
        if context.subresource == "status" {
            drop_deallocated(new, old);
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        devices::claim(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        match subresource {
            "status" => devices::claim_status_update(new, old),
            _ => devices::claim_update(new, old),
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("State", "A summary of the current state (allocated, pending, reserved, etc.)."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let allocated = object.get(&["status", "allocation"]).is_some_and(Value::is_object);
        let mut states = Vec::new();
        if object.is_terminating() {
            states.push("deleted");
        }
        if allocated {
            states.push("allocated");
        }
        if !object.list(&["status", "reservedFor"]).is_empty() {
            states.push("reserved");
        } else if !allocated {
            states.push("pending");
        }
        vec![object.name().into(), states.join(",").into(), age_of(object, clock).into()]
    }
}

/// The rules of resource claim templates.
#[derive(Default)]
pub struct ResourceClaimTemplate;

impl Strategy for ResourceClaimTemplate {
    fn default_object(&self, object: &mut Object) {
        if let Some(spec) = child(object.map_mut(&["spec"]), "spec") {
            default_requests(spec);
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        devices::template(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        devices::template_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), age_of(object, clock).into()]
    }
}

fn default_requests(spec: &mut Fields) {
    let amount = |request: &mut Fields| {
        fill(request, "allocationMode", "ExactCount");
        if request["allocationMode"] == "ExactCount" {
            fill_zero(request, "count", 1);
        }
        default_tolerations(request);
    };
    let Some(devices) = child(spec, "devices") else { return };
    each(devices, "requests", |request| {
        if let Some(exactly) = child(request, "exactly") {
            amount(exactly);
        }
        each(request, "firstAvailable", amount);
    });
}

fn default_tolerations(owner: &mut Fields) {
    each(owner, "tolerations", |toleration| fill(toleration, "operator", "Equal"));
}

/// What drivers said about devices goes when the claim loses them.
fn drop_deallocated(new: &mut Object, old: &Object) {
    let allocated =
        |claim: &Object| -> HashSet<String> { claim.list(&["status", "allocation", "devices", "results"]).iter().map(devices::device_key).collect() };
    let (before, now) = (allocated(old), allocated(new));
    let gone = |device: &Value| {
        let key = devices::device_key(device);
        before.contains(&key) && !now.contains(&key)
    };
    let told = new.list(&["status", "devices"]);
    let kept: Vec<Value> = told.iter().filter(|device| !gone(device)).cloned().collect();
    if kept.is_empty() {
        new.remove(&["status", "devices"]);
    } else if kept.len() < told.len() {
        new.set(&["status", "devices"], kept);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_drivers_said_goes_with_the_allocation() {
        let device = |name: &str| json!({"driver": "d", "pool": "p", "device": name});
        let claim = |allocated: &[&str], told: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| device(name)).collect::<Value>();
            let status = json!({"allocation": {"devices": {"results": list(allocated)}}, "devices": list(told)});
            Object::from_value(json!({"status": status})).expect("an object")
        };
        let names = |claim: &Object| claim.list(&["status", "devices"]).iter().map(|device| device["device"].clone()).collect::<Vec<_>>();
        let old = claim(&["a", "b"], &["a", "b"]);
        let mut fewer = claim(&["a"], &["a", "b", "unknown"]);
        drop_deallocated(&mut fewer, &old);
        assert_eq!(names(&fewer), ["a", "unknown"], "what was never allocated is left to validation");
        let mut none = claim(&[], &["a", "b"]);
        drop_deallocated(&mut none, &old);
        assert_eq!(none.get(&["status", "devices"]), None);
    }
}

//! Device classes, claims and slices of resource.k8s.io.

use serde_json::Value;

use super::{empty_status, reset_metadata, split_update};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, non_empty, string},
        resource::age_of,
        tree::{Fields, child, each, fill, fill_zero},
    },
    status::FieldError,
};

/// The rules of device classes.
#[derive(Default)]
pub struct DeviceClass;

impl Strategy for DeviceClass {
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
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
        if context.subresource == "status" {
            reset_metadata(new, old);
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        immutable_spec(new, old)
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

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        immutable_spec(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), age_of(object, clock).into()]
    }
}

/// The rules of resource slices.
#[derive(Default)]
pub struct ResourceSlice;

impl Strategy for ResourceSlice {
    fn selectable_paths(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        super::text_field(self, object, path)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Node", "The node that the devices are on."),
            string("Driver", "The driver that offers the devices."),
            string("Pool", "The pool that the slice is a part of."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![
            object.name().into(),
            non_empty(object.str(&["spec", "nodeName"]), "<unset>").into(),
            object.str(&["spec", "driver"]).into(),
            object.str(&["spec", "pool", "name"]).into(),
            age_of(object, clock).into(),
        ]
    }
}

fn immutable_spec(new: &Object, old: &Object) -> Vec<FieldError> {
    if new.get(&["spec"]) == old.get(&["spec"]) {
        return Vec::new();
    }
    vec![FieldError::invalid("spec", new.get(&["spec"]).cloned().unwrap_or_default(), "field is immutable")]
}

fn default_requests(spec: &mut Fields) {
    let amount = |request: &mut Fields| {
        fill(request, "allocationMode", "ExactCount");
        if request["allocationMode"] == "ExactCount" {
            fill_zero(request, "count", 1);
        }
        each(request, "tolerations", |toleration| fill(toleration, "operator", "Equal"));
    };
    let Some(devices) = child(spec, "devices") else { return };
    each(devices, "requests", |request| {
        if let Some(exactly) = child(request, "exactly") {
            amount(exactly);
        }
        each(request, "firstAvailable", amount);
    });
}

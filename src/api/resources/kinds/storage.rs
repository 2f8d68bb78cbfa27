//! Kinds of storage.k8s.io.

use serde_json::{Value, json};

use super::{Bare, split_update};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, boolean, integer, name, or_none, string},
        resource::age_of,
        tree::{fill, text},
    },
    status::FieldError,
};

/// The rules of storage classes.
#[derive(Default)]
pub struct StorageClass;

impl Strategy for StorageClass {
    fn default_object(&self, object: &mut Object) {
        fill(object.root_mut(), "reclaimPolicy", "Delete");
        fill(object.root_mut(), "volumeBindingMode", "Immediate");
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if object.str(&["provisioner"]).is_empty() {
            errors.push(FieldError::required("provisioner", ""));
        }
        for (field, known) in [("reclaimPolicy", ["Delete", "Retain"]), ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"])] {
            let value = object.str(&[field]);
            if !known.contains(&value) {
                errors.push(FieldError::not_supported(field, value, &known));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        let hidden = |field: &str| new.get(&[field]) != old.get(&[field]);
        for field in ["parameters", "provisioner"] {
            if hidden(field) {
                errors.push(FieldError::forbidden(field, format!("updates to {field} are forbidden.")));
            }
        }
        if hidden("reclaimPolicy") {
            errors.push(FieldError::forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."));
        }
        if hidden("volumeBindingMode") {
            errors.push(FieldError::invalid("volumeBindingMode", new.str(&["volumeBindingMode"]), "field is immutable"));
        }
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Provisioner", "The type of the provisioner."),
            string("ReclaimPolicy", "What happens to volumes of this class when they are released."),
            string("VolumeBindingMode", "When volumes are provisioned and bound."),
            string("AllowVolumeExpansion", "Whether volumes of this class can grow."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let default = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        let mark = if default.iter().any(|key| object.annotation(key) == Some("true")) { " (default)" } else { "" };
        let or = |field: &str, otherwise: &str| crate::resources::printing::non_empty(object.str(&[field]), otherwise);
        vec![
            format!("{}{mark}", object.name()).into(),
            object.str(&["provisioner"]).into(),
            or("reclaimPolicy", "Delete").into(),
            or("volumeBindingMode", "Immediate").into(),
            object.get(&["allowVolumeExpansion"]).and_then(Value::as_bool).unwrap_or(false).into(),
            age_of(object, clock).into(),
        ]
    }
}

/// The rules of volume attributes classes.
#[derive(Default)]
pub struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        let empty = object.str(&["driverName"]).is_empty();
        if empty { vec![FieldError::required("driverName", "")] } else { Vec::new() }
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("DriverName", "Name of the CSI driver"), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.str(&["driverName"]).into(), age_of(object, clock).into()]
    }
}

/// The rules of CSI drivers.
#[derive(Default)]
pub struct CsiDriver;

impl Strategy for CsiDriver {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "attachRequired", true);
        fill(spec, "podInfoOnMount", false);
        fill(spec, "storageCapacity", false);
        fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        fill(spec, "requiresRepublish", false);
        fill(spec, "seLinuxMount", false);
        if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
        }
    }

    /// As upstream: counted from the first change on.
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.remove(&["metadata", "generation"]);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            boolean("AttachRequired", "Whether volumes must be attached before they are mounted."),
            boolean("PodInfoOnMount", "Whether the driver is told about the pod."),
            boolean("StorageCapacity", "Whether the driver publishes its capacity."),
            string("TokenRequests", "The audiences of tokens that the driver asks for."),
            boolean("RequiresRepublish", "Whether the driver wants periodic calls for mounted volumes."),
            string("Modes", "The kinds of volumes that the driver supports."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let flag = |field: &str| Value::from(object.get(&["spec", field]).and_then(Value::as_bool).unwrap_or(false));
        let audiences = object.list(&["spec", "tokenRequests"]).iter().map(|request| text(request, &["audience"]));
        let tokens = match object.get(&["spec", "tokenRequests"]) {
            Some(Value::Array(_)) => audiences.collect::<Vec<_>>().join(","),
            _ => "<unset>".to_owned(),
        };
        let modes = object.list(&["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str).collect::<Vec<_>>();
        vec![
            object.name().into(),
            object.get(&["spec", "attachRequired"]).and_then(Value::as_bool).unwrap_or(true).into(),
            flag("podInfoOnMount"),
            flag("storageCapacity"),
            tokens.into(),
            flag("requiresRepublish"),
            or_none(modes.join(",")).into(),
            age_of(object, clock).into(),
        ]
    }
}

/// The rules of CSI nodes.
#[derive(Default)]
pub struct CsiNode;

impl Strategy for CsiNode {
    fn default_object(&self, object: &mut Object) {
        object.map_mut(&["spec"]).entry("drivers").or_insert(Value::Null);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), integer("Drivers", "Drivers indicates the number of CSI drivers registered on the node"), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.list(&["spec", "drivers"]).len().into(), age_of(object, clock).into()]
    }
}

/// The rules of CSI storage capacities.
#[derive(Default)]
pub struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn has_generation(&self) -> bool {
        Bare.has_generation()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("StorageClassName", "The class of the measured volumes."), string("Capacity", "What is free, in bytes.")]
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        let capacity = crate::resources::printing::non_empty(object.str(&["capacity"]), "<unset>");
        vec![object.name().into(), object.str(&["storageClassName"]).into(), capacity.into()]
    }
}

/// The rules of volume attachments.
#[derive(Default)]
pub struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({"attached": false}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
        if context.subresource == "status" {
            super::reset_metadata(new, old);
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource.is_empty() && new.get(&["spec"]) != old.get(&["spec"]) {
            return vec![FieldError::invalid("spec", new.get(&["spec"]).cloned().unwrap_or_default(), "field is immutable")];
        }
        Vec::new()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Attacher", "The driver that must handle the request."),
            string("PV", "The volume to attach."),
            string("Node", "The node to attach it to."),
            boolean("Attached", "Whether the volume is attached."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![
            object.name().into(),
            object.str(&["spec", "attacher"]).into(),
            object.str(&["spec", "source", "persistentVolumeName"]).into(),
            object.str(&["spec", "nodeName"]).into(),
            object.get(&["status", "attached"]).and_then(Value::as_bool).unwrap_or(false).into(),
            age_of(object, clock).into(),
        ]
    }
}

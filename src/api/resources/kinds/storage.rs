//! Classes and attachments of volumes (storage.k8s.io).

use serde_json::{Value, json};

use super::split_update_strictly;
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, boolean, name, string},
        resource::{ALL_METADATA, age_of},
        validation::{Field, storage, warnings::node_labels},
    },
    status::FieldError,
};

/// The rules of storage classes.
#[derive(Default)]
pub struct StorageClass;

impl Strategy for StorageClass {
    fn default_object(&self, object: &mut Object) {
        for (name, default) in [("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")] {
            object.root_mut().entry(name).or_insert_with(|| default.into());
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        storage::class(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        storage::class_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        let topologies = object.get(&["allowedTopologies"]).unwrap_or(&Value::Null);
        node_labels::warn_of_topologies(&Field::root("allowedTopologies", topologies))
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
        storage::attributes_class(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        storage::attributes_class_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("DriverName", "Name of the CSI driver"), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.str(&["driverName"]).into(), age_of(object, clock).into()]
    }
}

/// The rules of volume attachments.
#[derive(Default)]
pub struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({"attached": false}));
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update_strictly(new, old, context);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        storage::attachment(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        storage::attachment_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            Column { format: "name".into(), ..string("Attacher", "The driver that must handle the request.") },
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

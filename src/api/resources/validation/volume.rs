//! Persistent volumes and claims.

use serde_json::Value;

use super::{IMMUTABLE, labels, names};
use crate::{
    meta::Object,
    resources::{
        int_or_string::display,
        quantity,
        tree::{at, items, text},
    },
    status::FieldError,
};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const SOURCES: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

fn spec(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

fn access_modes(errors: &mut Vec<FieldError>, spec: &Value, why: &str) {
    let modes = items(spec, &["accessModes"]);
    if modes.is_empty() {
        errors.push(FieldError::required("spec.accessModes", why));
    }
    for mode in modes.iter().filter_map(Value::as_str) {
        if !MODES.contains(&mode) {
            errors.push(FieldError::not_supported("spec.accessModes", mode, &MODES));
        }
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.push(FieldError::forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes"));
    }
}

fn class(errors: &mut Vec<FieldError>, spec: &Value) {
    let class = text(spec, &["storageClassName"]);
    if !class.is_empty() {
        super::invalid_each(errors, "spec.storageClassName", class, names::subdomain(class, false));
    }
}

fn mode(errors: &mut Vec<FieldError>, spec: &Value) {
    let mode = text(spec, &["volumeMode"]);
    if !["Block", "Filesystem"].contains(&mode) {
        errors.push(FieldError::not_supported("spec.volumeMode", mode, &["Block", "Filesystem"]));
    }
}

/// Checks a persistent volume.
pub fn volume(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec(object), Vec::new());
    access_modes(&mut errors, spec, "");
    match at(spec, &["capacity", "storage"]) {
        Value::Null => errors.push(FieldError::required("spec.capacity", "")),
        amount if quantity::value_nanos(amount).is_some_and(|nanos| nanos <= 0) => {
            errors.push(FieldError::invalid("spec.capacity[storage]", display(amount), "must be greater than zero"));
        }
        _ => {}
    }
    let policy = text(spec, &["persistentVolumeReclaimPolicy"]);
    let policies = ["Delete", "Recycle", "Retain"];
    if !policies.contains(&policy) {
        errors.push(FieldError::not_supported("spec.persistentVolumeReclaimPolicy", policy, &policies));
    }
    let sources: Vec<&str> = SOURCES.into_iter().filter(|source| !at(spec, &[source]).is_null()).collect();
    if sources.is_empty() {
        errors.push(FieldError::required("spec", "must specify a volume type"));
    }
    for extra in sources.iter().skip(1) {
        errors.push(FieldError::forbidden(format!("spec.{extra}"), "may not specify more than 1 volume type"));
    }
    if sources.contains(&"local") && at(spec, &["nodeAffinity"]).is_null() {
        errors.push(FieldError::required("spec.nodeAffinity", "Local volume requires node affinity"));
    }
    class(&mut errors, spec);
    mode(&mut errors, spec);
    errors
}

/// Checks what an update does to a persistent volume.
pub fn volume_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = volume(new);
    let source = |object: &Object| SOURCES.map(|source| at(spec(object), &[source]).clone());
    if source(new) != source(old) {
        errors.push(FieldError::forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"));
    }
    if at(spec(new), &["volumeMode"]) != at(spec(old), &["volumeMode"]) {
        errors.push(FieldError::invalid("spec.volumeMode", text(spec(new), &["volumeMode"]), IMMUTABLE));
    }
    let affinity = at(spec(old), &["nodeAffinity"]);
    if !affinity.is_null() && affinity != at(spec(new), &["nodeAffinity"]) {
        errors.push(FieldError::invalid("spec.nodeAffinity", at(spec(new), &["nodeAffinity"]).clone(), IMMUTABLE));
    }
    errors
}

/// Checks a persistent volume claim.
pub fn claim(object: &Object) -> Vec<FieldError> {
    claim_spec(spec(object))
}

/// Checks the spec of a claim, or of a template for claims: then `path` says where it stands.
pub fn claim_template(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    let moved = claim_spec(spec).into_iter().map(|error| FieldError { field: error.field.replacen("spec", path, 1), ..error });
    errors.extend(moved);
}

fn claim_spec(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    access_modes(&mut errors, spec, "at least 1 access mode is required");
    labels::selector(&mut errors, "spec.selector", at(spec, &["selector"]));
    match at(spec, &["resources", "requests", "storage"]) {
        Value::Null => errors.push(FieldError::required("spec.resources[storage]", "")),
        amount if quantity::value_nanos(amount).is_some_and(|nanos| nanos <= 0) => {
            errors.push(FieldError::invalid("spec.resources[storage]", display(amount), "must be greater than zero"));
        }
        _ => {}
    }
    class(&mut errors, spec);
    mode(&mut errors, spec);
    errors
}

/// Checks what an update does to a claim: a bound one may grow, an unbound one may be bound.
pub fn claim_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = claim(new);
    let fixed = |object: &Object| {
        let mut spec = spec(object).clone();
        if let Some(fields) = spec.as_object_mut() {
            for field in ["resources", "volumeAttributesClassName"] {
                fields.remove(field);
            }
            if text(self::spec(old), &["volumeName"]).is_empty() {
                fields.remove("volumeName");
            }
            if at(self::spec(old), &["storageClassName"]).is_null() {
                fields.remove("storageClassName");
            }
        }
        spec
    };
    if fixed(new) != fixed(old) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden("spec", detail));
    }
    let storage = |object: &Object| quantity::value_nanos(at(spec(object), &["resources", "requests", "storage"])).unwrap_or(0);
    if storage(new) < storage(old) {
        errors.push(FieldError::forbidden("spec.resources.requests.storage", "field can not be less than previous value"));
    } else if storage(new) != storage(old) && old.str(&["status", "phase"]) != "Bound" {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden("spec", detail));
    }
    errors
}

//! Persistent volumes.

mod sources;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{Field, pod::node_selector, resource_names};
use crate::{
    meta::{Object, names},
    resources::tree::{self, at},
    status::FieldError,
};

const NONE: &Value = &Value::Null;
const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// Labels of old, and what they are called today.
const RENAMED: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

fn spec_of(object: &Object) -> Field<'_> {
    Field::root("spec", object.get(&["spec"]).unwrap_or(NONE))
}

/// Checks the access modes of a volume or a claim.
pub fn access_modes(errors: &mut Vec<FieldError>, modes: &Field<'_>, why: &str) {
    if modes.items().is_empty() {
        errors.push(modes.required(why));
    }
    for mode in modes.items() {
        modes.with(mode).check_supported(errors, &MODES);
    }
    let is = |mode: &Value, alone: bool| mode.as_str().is_some_and(|mode| MODES.contains(&mode) && (mode == "ReadWriteOncePod") == alone);
    if modes.items().iter().any(|mode| is(mode, true)) && modes.items().iter().any(|mode| is(mode, false)) {
        errors.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// Whether a volume is a file system or a block device.
pub fn volume_mode(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    spec.child("volumeMode").check_supported(errors, &["Block", "Filesystem"]);
}

/// Checks a persistent volume.
pub fn volume(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    access_modes(&mut errors, &spec.child("accessModes"), "");
    capacity(&mut errors, &spec.child("capacity"));
    let policy = spec.child("persistentVolumeReclaimPolicy");
    if !policy.text().is_empty() {
        policy.check_supported(&mut errors, &POLICIES);
    }
    affinity(&mut errors, &spec.child("nodeAffinity"));
    sources::sources(&mut errors, &spec, object.name());
    let path = spec.child("hostPath");
    if policy.text() == "Recycle" && is_root(path.child("path").text()) {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    spec.child("storageClassName").check_name(&mut errors, names::subdomain);
    volume_mode(&mut errors, &spec);
    attributes_class(&mut errors, &spec);
    if object.annotation(MOUNT_OPTIONS).is_some() && !sources::takes_mount_options(&spec) {
        let detail = "may not specify mount options for this volume type";
        errors.push(FieldError::forbidden(format!("metadata.annotations.{MOUNT_OPTIONS}"), detail));
    }
    errors
}

/// Whether a path is the root of the machine, however it is written.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        depth = if part == ".." { depth.saturating_sub(1) } else { depth + 1 };
    }
    path.starts_with('/') && depth == 0
}

/// A volume has storage, and nothing else.
fn capacity(errors: &mut Vec<FieldError>, capacity: &Field<'_>) {
    let count = capacity.entries().count();
    if count == 0 {
        errors.push(capacity.required(""));
    }
    if count != 1 || !capacity.key("storage").is_set() {
        errors.push(capacity.not_supported(&["storage"]));
    }
    for (_, amount) in capacity.entries() {
        resource_names::basic(errors, &amount);
        resource_names::positive(errors, &amount);
    }
}

fn affinity(errors: &mut Vec<FieldError>, affinity: &Field<'_>) {
    let required = affinity.child("required");
    if !affinity.is_set() {
        return;
    }
    match required.is_set() {
        true => node_selector(errors, &required),
        false => errors.push(required.required("must specify required node constraints")),
    }
}

fn attributes_class(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let class = spec.child("volumeAttributesClassName");
    if !class.is_set() {
        return;
    }
    match class.text() {
        "" => errors.push(class.required("an empty string is disallowed")),
        name => class.judge(errors, names::subdomain(name, false)),
    }
    if !spec.child("csi").is_set() {
        errors.push(spec.child("csi").required("has to be specified when using volumeAttributesClassName"));
    }
}

/// Checks what an update does to a persistent volume.
pub fn volume_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = volume(new);
    let (now, before) = (spec_of(new), spec_of(old));
    if sources::of(&now, &before) != sources::of(&before, &before) {
        errors.push(FieldError::forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"));
    }
    let unchanged = |errors: &mut Vec<FieldError>, name: &'static str| {
        Field::root(name, now.child(name).value).check_unchanged(errors, before.child(name).value);
    };
    unchanged(&mut errors, "volumeMode");
    let class = now.child("volumeAttributesClassName");
    if before.child("volumeAttributesClassName").is_set() && !class.is_set() {
        errors.push(class.forbidden("update from non-nil value to nil is forbidden"));
    }
    errors
}

/// Checks that the nodes from which a volume can be reached stay, once they are said.
pub fn fixed_affinity(new: &Value, old: &Value) -> Option<FieldError> {
    let detail = "field is immutable, except for updating from beta label to GA";
    let is_changed = !old.is_null() && new != old && !is_renamed(new, old);
    is_changed.then(|| FieldError::invalid("nodeAffinity", new.clone(), detail))
}

/// Whether an affinity is what it was, but for keys that have new names. All it has is a list of terms.
fn is_renamed(new: &Value, old: &Value) -> bool {
    const TERMS: [&str; 2] = ["required", "nodeSelectorTerms"];
    let (now, before) = (tree::items(new, &TERMS), tree::items(old, &TERMS));
    !at(new, &["required"]).is_null() && now.len() == before.len() && now.iter().zip(before).all(|(now, before)| is_renamed_term(now, before))
}

fn is_renamed_term(new: &Value, old: &Value) -> bool {
    ["matchExpressions", "matchFields"].iter().all(|list| {
        let (now, before) = (tree::items(new, &[list]), tree::items(old, &[list]));
        now.len() == before.len() && now.iter().zip(before).all(|(now, before)| is_renamed_requirement(now, before))
    })
}

fn is_renamed_requirement(new: &Value, old: &Value) -> bool {
    let (key, before) = (tree::text(new, &["key"]), tree::text(old, &["key"]));
    let rest = ["operator", "values"].iter().all(|field| at(new, &[field]) == at(old, &[field]));
    rest && (key == before || RENAMED.contains(&(before, key)))
}

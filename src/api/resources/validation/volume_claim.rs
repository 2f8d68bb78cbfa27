//! Persistent volume claims.

use serde_json::Value;

use super::{
    Field, IMMUTABLE, labels, resource_names,
    volume::{access_modes, volume_mode},
};
use crate::{
    meta::{Object, Quantity, amounts::quantity, names},
    resources::tree::{Fields, at, text},
    status::FieldError,
};

const NONE: &Value = &Value::Null;
const CLASS: [&str; 3] = ["metadata", "annotations", CLASS_ANNOTATION];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const FIXED: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const RESIZING: [&str; 5] =
    ["ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"];

fn spec_of(claim: &Object) -> Field<'_> {
    Field::root("spec", claim.get(&["spec"]).unwrap_or(NONE))
}

/// Checks a persistent volume claim.
pub fn claim(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    claim_spec(&mut errors, &spec_of(object), false);
    errors
}

/// Checks the spec of a template for claims, which stands at `path`.
pub fn claim_template(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    claim_spec(errors, &Field::root(path, spec), false);
}

/// `any_group` lets groups of data sources have any name.
fn claim_spec(errors: &mut Vec<FieldError>, spec: &Field<'_>, any_group: bool) {
    access_modes(errors, &spec.child("accessModes"), "at least 1 access mode is required");
    let selector = spec.child("selector");
    labels::selector(errors, &selector.to_string(), selector.value);
    let resources = spec.child("resources");
    let amount = resources.key("storage");
    let amount = amount.with(at(resources.value, &["requests", "storage"]));
    if amount.is_set() {
        resource_names::positive(errors, &amount);
    } else {
        errors.push(amount.required(""));
    }
    spec.child("storageClassName").check_name(errors, names::subdomain);
    volume_mode(errors, spec);
    data_sources(errors, spec, any_group);
    spec.child("volumeAttributesClassName").check_name(errors, names::subdomain);
}

/// What a new volume is filled with: by an old field and a newer one, which agree.
fn data_sources(errors: &mut Vec<FieldError>, spec: &Field<'_>, any_group: bool) {
    let (source, reference) = (spec.child("dataSource"), spec.child("dataSourceRef"));
    for source in [&source, &reference].into_iter().filter(|source| source.is_set()) {
        data_source(errors, source, any_group);
    }
    let namespace = reference.child("namespace");
    namespace.check_name(errors, names::label);
    if !source.is_set() || !reference.is_set() {
        return;
    }
    let shown = source.to_string();
    if !namespace.text().is_empty() {
        errors.push(spec.invalid_as(shown, "may not be specified when dataSourceRef.namespace is specified"));
    } else if ["apiGroup", "kind", "name"].iter().any(|part| source.child(part).value != reference.child(part).value) {
        errors.push(spec.invalid_as(shown, "must match dataSourceRef"));
    }
}

fn data_source(errors: &mut Vec<FieldError>, source: &Field<'_>, any_group: bool) {
    let (kind, group) = (source.child("kind"), source.child("apiGroup"));
    source.child("name").check_required(errors);
    kind.check_required(errors);
    if group.text().is_empty() && kind.text() != "PersistentVolumeClaim" {
        errors.push(source.invalid_as(kind.text(), "must be 'PersistentVolumeClaim' when referencing the default apiGroup"));
    }
    if !any_group {
        group.check_name(errors, names::subdomain);
    }
}

/// Makes `dataSource` and `dataSourceRef` say the same where the source is in the claim's own namespace.
pub fn align_data_sources(spec: &mut Fields) {
    let has_namespace = spec.get("dataSourceRef").is_some_and(|source| !text(source, &["namespace"]).is_empty());
    for (from, to) in [("dataSource", "dataSourceRef"), ("dataSourceRef", "dataSource")] {
        let is_set = |name: &str| spec.get(name).is_some_and(|source| !source.is_null());
        if !is_set(from) || is_set(to) || has_namespace {
            continue;
        }
        let source = spec[from].as_object().into_iter().flatten();
        let copy: Fields = source.filter(|(name, _)| name.as_str() != "namespace").map(|(name, value)| (name.clone(), value.clone())).collect();
        spec.insert(to.to_owned(), copy.into());
    }
}

/// Checks what an update does to a claim: a bound one may grow and change its class of attributes, an unbound one may be bound.
pub fn claim_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let (now, before) = (spec_of(new), spec_of(old));
    let any_group = ["dataSource", "dataSourceRef"].iter().any(|source| !at(before.value, &[source, "apiGroup"]).is_null());
    let mut errors = Vec::new();
    claim_spec(&mut errors, &now, any_group);
    fixed(&mut errors, new, old);
    let storage = |object: &Object, path: &[&str]| object.get(path).and_then(quantity).unwrap_or(Quantity::from_value(0));
    let request = ["spec", "resources", "requests", "storage"];
    if storage(new, &request) < storage(old, &request) && storage(new, &request) <= storage(old, &["status", "capacity", "storage"]) {
        errors.push(FieldError::forbidden("spec.resources.requests.storage", "field can not be less than status.capacity"));
    }
    Field::root("volumeMode", now.child("volumeMode").value).check_unchanged(&mut errors, before.child("volumeMode").value);
    let class = now.child("volumeAttributesClassName");
    let is_applied = old.get(&["status", "currentVolumeAttributesClassName"]).is_some_and(|class| !class.is_null());
    if is_applied && class.value != before.child("volumeAttributesClassName").value && class.text().is_empty() {
        let what = if class.is_set() { "empty string" } else { "nil" };
        errors.push(class.forbidden(format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil")));
    }
    errors
}

/// Everything else stays: the volume's name once it is there, the class once it has one.
fn fixed(errors: &mut Vec<FieldError>, new: &Object, old: &Object) {
    let fields = |object: &Object| object.get(&["spec"]).and_then(Value::as_object).cloned().unwrap_or_default();
    let (mut now, mut before) = (fields(new), fields(old));
    let adopt = |to: &mut Fields, from: &Fields, name: &str| match from.get(name) {
        Some(value) => drop(to.insert(name.to_owned(), value.clone())),
        None => drop(to.remove(name)),
    };
    if old.str(&["spec", "volumeName"]).is_empty() {
        adopt(&mut before, &now, "volumeName");
    }
    let upgrade = class_upgrade(new, old);
    if upgrade.is_some() {
        now.remove("storageClassName");
    }
    let annotation = |claim: &Object| claim.get(&CLASS).and_then(Value::as_str).unwrap_or("").to_owned();
    if upgrade != Some(Upgrade::FromAnnotation) && annotation(new) != annotation(old) {
        errors.push(FieldError::invalid(CLASS.join("."), annotation(new), IMMUTABLE));
    }
    if new.str(&["status", "phase"]) == "Bound" {
        adopt(&mut now, &before, "volumeAttributesClassName");
        if let (Some(requests), Some(size)) = (requests_of(&mut now), old.get(&["spec", "resources", "requests", "storage"])) {
            requests.insert("storage".to_owned(), size.clone());
        }
    }
    align_data_sources(&mut before);
    let is_left = |value: &Value| !value.is_null() && value.as_str() != Some("");
    now.retain(|name, value| is_left(value) || name != "volumeName");
    before.retain(|name, value| is_left(value) || name != "volumeName");
    if now != before {
        errors.push(FieldError::forbidden("spec", FIXED));
    }
}

fn requests_of(spec: &mut Fields) -> Option<&mut Fields> {
    spec.get_mut("resources")?.get_mut("requests")?.as_object_mut()
}

/// How a claim without a class in its spec may get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    FromAnnotation,
    FromNothing,
}

fn class_upgrade(new: &Object, old: &Object) -> Option<Upgrade> {
    let class = |claim: &Object| claim.get(&["spec", "storageClassName"]).and_then(Value::as_str).map(str::to_owned);
    let annotation = |claim: &Object| claim.get(&CLASS).and_then(Value::as_str).map(str::to_owned);
    let (wanted, None) = (class(new)?, class(old)) else { return None };
    match annotation(old) {
        Some(before) if before == wanted && annotation(new).is_none_or(|now| now == before) => Some(Upgrade::FromAnnotation),
        Some(before) if before != wanted => None,
        _ => Some(Upgrade::FromNothing),
    }
}

/// Checks the status of a claim.
pub fn claim_status(object: &Object) -> Vec<FieldError> {
    let (status, mut errors) = (Field::root("status", object.get(&["status"]).unwrap_or(NONE)), Vec::new());
    for (_, amount) in status.child("capacity").entries() {
        resource_names::basic(&mut errors, &amount);
    }
    let statuses = status.child("allocatedResourceStatuses");
    for (name, resizing) in statuses.entries() {
        resource_key(&mut errors, &statuses, name);
        if !RESIZING.contains(&resizing.text()) {
            errors.push(FieldError::not_supported(statuses, name, &RESIZING));
        }
    }
    let allocated = status.child("allocatedResources");
    for (name, amount) in allocated.entries() {
        if resource_key(&mut errors, &allocated, name) {
            resource_names::basic(&mut errors, &amount);
        }
    }
    errors
}

/// Of Kubernetes' own names only storage can be allocated to a claim.
fn resource_key(errors: &mut Vec<FieldError>, list: &Field<'_>, name: &str) -> bool {
    let messages = names::qualified(name);
    let is_good = messages.is_empty() && (name == "storage" || !resource_names::is_native(name));
    if messages.is_empty() && !is_good {
        errors.push(FieldError::not_supported(*list, name, &["storage"]));
    }
    errors.extend(messages.into_iter().map(|message| list.invalid_as(name, message)));
    is_good
}

#[cfg(test)]
mod tests;

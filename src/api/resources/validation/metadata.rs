//! Metadata, for every kind.

use serde_json::Value;

use super::{IMMUTABLE, NameRule, invalid_each, labels, names};
use crate::{
    meta::Object,
    resources::tree::{at, flag, text},
    status::FieldError,
};

const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Checks the metadata of a new object.
pub fn metadata(object: &Object, namespaced: bool, name_rule: NameRule) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let generate = object.str(&["metadata", "generateName"]);
    if !generate.is_empty() {
        invalid_each(&mut errors, "metadata.generateName", generate, name_rule(generate, true));
    }
    match object.name() {
        "" => errors.push(FieldError::required("metadata.name", "name or generateName is required")),
        name => invalid_each(&mut errors, "metadata.name", name, name_rule(name, false)),
    }
    match (namespaced, object.namespace()) {
        (true, "") => errors.push(FieldError::required("metadata.namespace", "")),
        (true, namespace) => invalid_each(&mut errors, "metadata.namespace", namespace, names::label(namespace, false)),
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
    }
    common(object, &mut errors);
    finalizers(object, &mut errors);
    errors
}

/// Checks what an update does to metadata.
pub fn metadata_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.is_terminating() {
        no_new_finalizers(new, old, &mut errors);
    }
    let generation = |object: &Object| object.int(&["metadata", "generation"]).unwrap_or(0);
    if generation(new) < generation(old) {
        errors.push(FieldError::invalid("metadata.generation", generation(new), "must not be decremented"));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let of = |object: &Object| object.get(&["metadata", field]).cloned().unwrap_or_default();
        if of(new) != of(old) {
            errors.push(FieldError::invalid(format!("metadata.{field}"), of(new), IMMUTABLE));
        }
    }
    common(new, &mut errors);
    errors
}

fn common(object: &Object, errors: &mut Vec<FieldError>) {
    let metadata = object.get(&["metadata"]).unwrap_or(&Value::Null);
    super::non_negative(errors, metadata, "metadata", "generation");
    labels::labels(errors, "metadata.labels", at(metadata, &["labels"]));
    annotations(errors, "metadata.annotations", at(metadata, &["annotations"]));
    owners(object.list(&["metadata", "ownerReferences"]), errors);
}

/// Annotation keys, and the size of all together.
pub fn annotations(errors: &mut Vec<FieldError>, field: &str, annotations: &Value) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        invalid_each(errors, field, key, names::qualified(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(field, ANNOTATIONS_LIMIT));
    }
}

fn owners(owners: &[Value], errors: &mut Vec<FieldError>) {
    const FIELD: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in owners {
        let version = text(owner, &["apiVersion"]);
        if version.rsplit('/').next().unwrap_or("").is_empty() {
            errors.push(FieldError::invalid(format!("{FIELD}.apiVersion"), version, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, &[field]).is_empty() {
                errors.push(FieldError::invalid(format!("{FIELD}.{field}"), "", "must not be empty"));
            }
        }
        if version == "v1" && text(owner, &["kind"]) == "Event" {
            errors.push(FieldError::invalid(FIELD, owner.clone(), "/v1, Kind=Event is disallowed from being an owner"));
        }
        if !flag(owner, &["controller"]) {
            continue;
        }
        let name = format!("{}/{}", text(owner, &["kind"]), text(owner, &["name"]));
        match &controller {
            Some(first) => {
                let detail = format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}");
                errors.push(FieldError::invalid(FIELD, owners.to_vec(), detail));
            }
            None => controller = Some(name),
        }
    }
}

fn finalizers(object: &Object, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "metadata.finalizers";
    let finalizers = object.list(&["metadata", "finalizers"]);
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        invalid_each(errors, FIELD, finalizer, names::qualified(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(FIELD, finalizers.to_vec(), detail));
    }
}

fn no_new_finalizers(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    let before = old.list(&["metadata", "finalizers"]);
    let mut extra: Vec<&str> =
        new.list(&["metadata", "finalizers"]).iter().filter(|finalizer| !before.contains(finalizer)).filter_map(Value::as_str).collect();
    if extra.is_empty() {
        return;
    }
    extra.sort_unstable();
    let list = extra.iter().map(|finalizer| format!("{finalizer:?}")).collect::<Vec<_>>().join(", ");
    let detail = format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}");
    errors.push(FieldError::forbidden("metadata.finalizers", detail));
}

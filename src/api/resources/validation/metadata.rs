//! Metadata, for every kind.

use std::collections::HashSet;

use serde_json::Value;

use super::{Field, IMMUTABLE, invalid_each, labels};
use crate::{
    meta::{
        Object,
        names::{self, NameRule},
    },
    resources::tree::{at, flag, text},
    status::FieldError,
};

const ANNOTATIONS_LIMIT: usize = 256 * 1024;
const FINALIZERS: [&str; 2] = ["metadata", "finalizers"];
const MANAGER_LIMIT: usize = 128;
const SUBRESOURCE_LIMIT: usize = 256;

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
    finalizers(object, &[], &mut errors);
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
    finalizers(new, old.list(&FINALIZERS), &mut errors);
    errors
}

fn common(object: &Object, errors: &mut Vec<FieldError>) {
    let metadata = object.get(&["metadata"]).unwrap_or(&Value::Null);
    super::non_negative(errors, metadata, "metadata", "generation");
    labels::labels(errors, "metadata.labels", at(metadata, &["labels"]));
    annotations(errors, "metadata.annotations", at(metadata, &["annotations"]));
    owners(object.list(&["metadata", "ownerReferences"]), errors);
    managed_fields(object.list(&["metadata", "managedFields"]), errors);
}

/// Entries that the tracking of ownership took over as they were sent.
fn managed_fields(entries: &[Value], errors: &mut Vec<FieldError>) {
    for (index, entry) in entries.iter().enumerate() {
        let field = |name: &str| format!("metadata.managedFields[{index}].{name}");
        let (operation, fields_type, manager) = (text(entry, &["operation"]), text(entry, &["fieldsType"]), text(entry, &["manager"]));
        if !matches!(operation, "Apply" | "Update") {
            errors.push(FieldError::invalid(field("operation"), operation, "must be `Apply` or `Update`"));
        }
        if !matches!(fields_type, "" | "FieldsV1") {
            errors.push(FieldError::invalid(field("fieldsType"), fields_type, "must be `FieldsV1`"));
        }
        if manager.len() > MANAGER_LIMIT {
            errors.push(FieldError::too_long(field("manager"), MANAGER_LIMIT));
        } else if let Some((at, character)) = manager.char_indices().find(|(_, character)| character.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
            errors.push(FieldError::invalid(field("manager"), manager, detail));
        }
        if text(entry, &["subresource"]).len() > SUBRESOURCE_LIMIT {
            errors.push(FieldError::too_long(field("subresource"), SUBRESOURCE_LIMIT));
        }
    }
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

/// The metadata of a template: of it only labels and annotations are taken.
pub fn of_template(errors: &mut Vec<FieldError>, metadata: &Field<'_>) {
    let (notes, marks) = (metadata.child("annotations"), metadata.child("labels"));
    annotations(errors, &notes.to_string(), notes.value);
    labels::labels(errors, &marks.to_string(), marks.value);
    let is_set = |value: &Value| !value.is_null() && value.as_str() != Some("") && value.as_array().is_none_or(|list| !list.is_empty());
    for (name, _) in metadata.value.as_object().into_iter().flatten().filter(|(_, value)| is_set(value)) {
        match name.as_str() {
            "annotations" | "labels" => {}
            // As upstream, which spells it so.
            "uid" => errors.push(metadata.child("uID").forbidden("cannot be set")),
            name => errors.push(metadata.child(name).forbidden("cannot be set")),
        }
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
            // Each of these errors shows all owners: one is enough.
            Some(first) => {
                let detail = format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}");
                return errors.push(FieldError::invalid(FIELD, owners.to_vec(), detail));
            }
            None => controller = Some(name),
        }
    }
}

/// Finalizers that the object did not have before.
fn finalizers(object: &Object, before: &[Value], errors: &mut Vec<FieldError>) {
    const FIELD: &str = "metadata.finalizers";
    let (finalizers, known) = (object.list(&FINALIZERS), before.iter().collect::<HashSet<_>>());
    for finalizer in finalizers.iter().filter(|finalizer| !known.contains(finalizer)) {
        let finalizer = finalizer.as_str().unwrap_or("");
        invalid_each(errors, FIELD, finalizer, names::qualified(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") && finalizers != before {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(FIELD, finalizers.to_vec(), detail));
    }
}

/// Checks that finalizers which were not there before are upstream's own, or have a domain.
pub fn finalizer_names(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let before = old.map_or(&[][..], |old| old.list(&FINALIZERS));
    let added = new.list(&FINALIZERS).iter().enumerate().filter(|(_, finalizer)| !before.contains(finalizer));
    let unknown = added.filter_map(|(index, finalizer)| Some((index, finalizer.as_str().filter(|name| !names::is_finalizer(name))?)));
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    unknown.map(|(index, name)| FieldError::invalid(format!("metadata.finalizers[{index}]"), name, detail)).collect()
}

fn no_new_finalizers(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    let before: HashSet<&Value> = old.list(&FINALIZERS).iter().collect();
    let mut extra: Vec<&str> = new.list(&FINALIZERS).iter().filter(|finalizer| !before.contains(finalizer)).filter_map(Value::as_str).collect();
    if extra.is_empty() {
        return;
    }
    extra.sort_unstable();
    let list = extra.iter().map(|finalizer| format!("{finalizer:?}")).collect::<Vec<_>>().join(", ");
    let detail = format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}");
    errors.push(FieldError::forbidden("metadata.finalizers", detail));
}

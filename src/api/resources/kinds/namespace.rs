//! Namespaces.

use serde_json::{Value, json};

use super::{restore, take_status};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, string},
        resource::age_of,
        validation::{NameRule, names},
    },
    status::FieldError,
};

const NAME_LABEL: [&str; 3] = ["metadata", "labels", "kubernetes.io/metadata.name"];

/// The rules of namespaces.
#[derive(Default)]
pub struct Namespace;

impl Strategy for Namespace {
    fn default_object(&self, object: &mut Object) {
        label_with_name(object);
    }

    /// The finalizer keeps a namespace until everything in it is gone.
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        label_with_name(object);
        object.set(&["status"], json!({"phase": "Active"}));
        let mut finalizers = object.list(&["spec", "finalizers"]).to_vec();
        if !finalizers.contains(&json!("kubernetes")) {
            finalizers.push("kubernetes".into());
        }
        object.set(&["spec", "finalizers"], finalizers);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        match context.subresource {
            "status" => take_status(new, old),
            "finalize" => restore(new, old, &["status"]),
            _ => {
                restore(new, old, &["spec", "finalizers"]);
                restore(new, old, &["status"]);
            }
        }
        label_with_name(new);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        names::label
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        finalizers(object, "spec.finalizers".to_owned())
    }

    fn validate_update(&self, new: &Object, _old: &Object, subresource: &str) -> Vec<FieldError> {
        match subresource {
            "status" => phase(new),
            "finalize" => finalizers(new, "spec.finalizers[0]".to_owned()),
            _ => Vec::new(),
        }
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        super::text_field(self, object, path)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("Status", "The status of the namespace"), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.str(&["status", "phase"]).into(), age_of(object, clock).into()]
    }
}

fn label_with_name(object: &mut Object) {
    let name = object.name().to_owned();
    if !name.is_empty() {
        object.set(&NAME_LABEL, name);
    }
}

fn finalizers(object: &Object, field: String) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for finalizer in object.list(&["spec", "finalizers"]).iter().filter_map(Value::as_str) {
        for message in names::qualified(finalizer) {
            errors.push(FieldError::invalid(field.clone(), finalizer, message));
        }
        if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
            errors.push(FieldError::invalid(field.clone(), finalizer, "name is neither a standard finalizer name nor is it fully qualified"));
        }
    }
    errors
}

fn phase(object: &Object) -> Vec<FieldError> {
    let phase = object.str(&["status", "phase"]);
    let (wanted, detail) = if object.is_terminating() {
        ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
    } else {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    };
    if phase == wanted { Vec::new() } else { vec![FieldError::invalid("status.Phase", phase, detail)] }
}

//! Namespaces.

use serde_json::{Value, json};

use super::{restore, take_status};
use crate::{
    meta::{
        Clock, Object,
        names::{self, NameRule},
    },
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, string},
        resource::age_of,
        validation::namespace,
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

    fn holds(&self, object: &Object) -> bool {
        !object.list(&["spec", "finalizers"]).is_empty()
    }

    /// Namespaces know no grace, and tell by their phase that they go.
    fn mark_deleted(&self, object: &mut Object) {
        object.remove(&["metadata", "deletionGracePeriodSeconds"]);
        object.set(&["status", "phase"], "Terminating");
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        names::label
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        namespace::namespace(object)
    }

    fn validate_update(&self, new: &Object, _old: &Object, subresource: &str) -> Vec<FieldError> {
        match subresource {
            "status" => namespace::namespace_status(new),
            "finalize" => namespace::finalize(new),
            _ => namespace::namespace(new),
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

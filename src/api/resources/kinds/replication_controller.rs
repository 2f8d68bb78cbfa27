//! Replication controllers.

use serde_json::Value;

use super::{
    number_field,
    pod_spec::default_template,
    replica_set::{replica_cells, replica_columns},
    split_update,
};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::labels_or_none,
        tree::fill,
        validation::{warnings, workload},
    },
    status::FieldError,
};

/// The rules of replication controllers.
#[derive(Default)]
pub struct ReplicationController;

impl Strategy for ReplicationController {
    fn default_object(&self, object: &mut Object) {
        fill(object.map_mut(&["spec"]), "replicas", 1);
        if let Some(labels) = object.get(&["spec", "template", "metadata", "labels"]).cloned() {
            for path in [&["spec", "selector"][..], &["metadata", "labels"]] {
                if object.get(path).and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
                    object.set(path, labels.clone());
                }
            }
        }
        default_template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.remove(&["status"]);
        object.set(&["status", "replicas"], 0);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        workload::replication_controller(object)
    }

    fn validate_update(&self, new: &Object, _old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { workload::replica_status(new) } else { workload::replication_controller(new) }
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        (path == "status.replicas").then(|| number_field(object, &["status", "replicas"]))?
    }

    fn warnings_on_create(&self, object: &Object) -> Vec<String> {
        warnings::pod_name(object, "Pod names and hostnames")
    }

    fn columns(&self) -> Vec<Column> {
        replica_columns("Labels of the pods that this controller counts.")
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let selector = labels_or_none(object.get(&["spec", "selector"]).unwrap_or(&Value::Null));
        replica_cells(object, selector, clock)
    }
}

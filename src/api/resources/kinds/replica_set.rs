//! Replica sets.

use serde_json::Value;

use super::{empty_status, number_field, pod_spec::default_template, split_update, template_spec};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, container_cells, container_columns, integer, name, selector_or_none, wide},
        resource::age_of,
        tree::fill,
        validation::{warnings, workload},
    },
    status::FieldError,
};

/// The rules of replica sets.
#[derive(Default)]
pub struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default_object(&self, object: &mut Object) {
        fill(object.map_mut(&["spec"]), "replicas", 1);
        default_template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
        object.set(&["status", "replicas"], 0);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        workload::replica_set(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" {
            return workload::replica_status(new);
        }
        let mut errors = workload::replica_set(new);
        errors.extend(workload::immutable(new, old, &["spec", "selector"]));
        errors
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
        replica_columns("Label selector over pods that should match the replica count.")
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let selector = selector_or_none(object.get(&["spec", "selector"]).unwrap_or(&Value::Null));
        replica_cells(object, selector, clock)
    }
}

/// The columns of replica sets and replication controllers.
pub fn replica_columns(selector: &str) -> Vec<Column> {
    let [containers, images] = container_columns();
    vec![
        name(),
        integer("Desired", "The number of desired pods."),
        integer("Current", "The most recently observed number of non-terminating pods."),
        integer("Ready", "The number of non-terminating pods with a Ready condition."),
        age(),
        containers,
        images,
        wide("Selector", selector),
    ]
}

/// The cells that go with [`replica_columns`].
pub fn replica_cells(object: &Object, selector: String, clock: &dyn Clock) -> Vec<Value> {
    let count = |path: &[&str]| object.int(path).unwrap_or(0).into();
    let [containers, images] = container_cells(template_spec(object.get(&["spec"]).unwrap_or(&Value::Null)));
    vec![
        object.name().into(),
        count(&["spec", "replicas"]),
        count(&["status", "replicas"]),
        count(&["status", "readyReplicas"]),
        age_of(object, clock).into(),
        containers,
        images,
        selector.into(),
    ]
}

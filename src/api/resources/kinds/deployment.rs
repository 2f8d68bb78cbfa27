//! Deployments.

use serde_json::{Value, json};

use super::{empty_status, keep_status, pod_spec::default_template, restore, take_status};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, container_cells, container_columns, name, selector_or_none, string, wide},
        resource::age_of,
        tree::{child, fill},
        validation::{warnings, workload},
    },
    status::FieldError,
};

/// The rules of deployments.
#[derive(Default)]
pub struct Deployment;

impl Strategy for Deployment {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "replicas", 1);
        fill(spec, "strategy", json!({}));
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = child(spec, "strategy") {
            fill(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate" {
                fill(strategy, "rollingUpdate", json!({}));
                if let Some(rolling) = child(strategy, "rollingUpdate") {
                    fill(rolling, "maxUnavailable", "25%");
                    fill(rolling, "maxSurge", "25%");
                }
            }
        }
        default_template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        &[&["f:metadata", "f:labels"]]
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            take_status(new, old);
            restore(new, old, &["metadata", "labels"]);
        } else {
            keep_status(new, old);
        }
    }

    /// A changed annotation counts too: controllers copy annotations to replica sets.
    fn spec_changed(&self, new: &Object, old: &Object) -> bool {
        let annotations = |object: &Object| object.get(&["metadata", "annotations"]).cloned().unwrap_or(json!({}));
        new.get(&["spec"]) != old.get(&["spec"]) || annotations(new) != annotations(old)
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        workload::deployment(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" {
            return workload::deployment_status(new, old);
        }
        let mut errors = workload::deployment(new);
        errors.extend(workload::immutable(new, old, &["spec", "selector"]));
        errors
    }

    fn warnings_on_create(&self, object: &Object) -> Vec<String> {
        warnings::pod_name(object, "Pod names and hostnames")
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            name(),
            string("Ready", "Number of the pod with ready state"),
            string("Up-to-date", "Total number of non-terminating pods targeted by this deployment that have the desired template spec."),
            string("Available", "Total number of available non-terminating pods targeted by this deployment."),
            age(),
            containers,
            images,
            wide("Selector", "Label selector for pods."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let count = |path: &[&str]| object.int(path).unwrap_or(0);
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let [containers, images] = container_cells(super::template_spec(spec));
        vec![
            object.name().into(),
            format!("{}/{}", count(&["status", "readyReplicas"]), count(&["spec", "replicas"])).into(),
            count(&["status", "updatedReplicas"]).into(),
            count(&["status", "availableReplicas"]).into(),
            age_of(object, clock).into(),
            containers,
            images,
            selector_or_none(spec.get("selector").unwrap_or(&Value::Null)).into(),
        ]
    }
}

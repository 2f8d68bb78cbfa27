//! Daemon sets.

use serde_json::{Value, json};

use super::{pod_spec::default_template, split_update, template_spec};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, container_cells, container_columns, integer, labels_or_none, name, selector_or_none, string, wide},
        resource::age_of,
        tree::{child, fill},
        validation::workload,
    },
    status::FieldError,
};

/// The template's own generation, from before controller revisions.
const TEMPLATE_GENERATION: [&str; 3] = ["metadata", "annotations", "deprecated.daemonset.template.generation"];

/// The rules of daemon sets.
#[derive(Default)]
pub struct DaemonSet;

impl Strategy for DaemonSet {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "updateStrategy", json!({}));
        if let Some(strategy) = child(spec, "updateStrategy") {
            fill(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate" {
                fill(strategy, "rollingUpdate", json!({}));
                if let Some(rolling) = child(strategy, "rollingUpdate") {
                    fill(rolling, "maxUnavailable", 1);
                    fill(rolling, "maxSurge", 0);
                }
            }
        }
        default_template(object, &["spec", "template"]);
        // Whoever creates one owns the annotation; what it is the server says.
        object.set_default(&TEMPLATE_GENERATION, "0");
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&TEMPLATE_GENERATION, "1");
        object.set(&["status"], json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
        let generation: i64 = old.str(&TEMPLATE_GENERATION).parse().unwrap_or(0);
        let changed = context.subresource != "status" && new.get(&["spec", "template"]) != old.get(&["spec", "template"]);
        new.set(&TEMPLATE_GENERATION, (generation + i64::from(changed)).to_string());
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        workload::daemon_set(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" {
            return workload::daemon_set_status(new, old);
        }
        let mut errors = workload::daemon_set(new);
        errors.extend(workload::immutable(new, old, &["spec", "selector"]));
        errors
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            name(),
            integer("Desired", "The total number of nodes that should be running the daemon pod."),
            integer("Current", "The number of nodes that run at least one daemon pod and are supposed to."),
            integer("Ready", "The number of nodes that should and do run a ready daemon pod."),
            integer("Up-to-date", "The total number of nodes that run an updated daemon pod."),
            integer("Available", "The number of nodes that should and do run an available daemon pod."),
            string("Node Selector", "Labels that a node needs for the pod to fit on it."),
            age(),
            containers,
            images,
            wide("Selector", "A label query over pods that are managed by the daemon set."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let count = |field: &str| object.int(&["status", field]).unwrap_or(0).into();
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let pod = template_spec(spec);
        let [containers, images] = container_cells(pod);
        vec![
            object.name().into(),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            labels_or_none(pod.get("nodeSelector").unwrap_or(&Value::Null)).into(),
            age_of(object, clock).into(),
            containers,
            images,
            selector_or_none(spec.get("selector").unwrap_or(&Value::Null)).into(),
        ]
    }
}

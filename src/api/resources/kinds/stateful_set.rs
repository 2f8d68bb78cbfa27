//! Stateful sets.

use serde_json::{Value, json};

use super::{pod_spec::default_template, split_update, template_spec};
use crate::{
    meta::{
        Clock, Object,
        names::{self, NameRule},
    },
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, container_cells, container_columns, name, string},
        resource::age_of,
        tree::{child, each, fill},
        validation::{stateful_set, warnings},
    },
    status::FieldError,
};

/// How many pods an update may take away at once. Upstream's feature MaxUnavailableStatefulSet is off where nothing is said: nobody gets the
/// field who has it not.
const MAX_UNAVAILABLE: &[&str] = &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];

/// The rules of stateful sets.
#[derive(Default)]
pub struct StatefulSet;

impl Strategy for StatefulSet {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "podManagementPolicy", "OrderedReady");
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
        if let Some(policy) = child(spec, "persistentVolumeClaimRetentionPolicy") {
            fill(policy, "whenDeleted", "Retain");
            fill(policy, "whenScaled", "Retain");
        }
        fill(spec, "updateStrategy", json!({}));
        if let Some(strategy) = child(spec, "updateStrategy") {
            if crate::resources::tree::is_unset(strategy, "type") {
                fill(strategy, "type", "RollingUpdate");
                fill(strategy, "rollingUpdate", json!({}));
            }
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = child(strategy, "rollingUpdate")
            {
                fill(rolling, "partition", 0);
            }
        }
        each(spec, "volumeClaimTemplates", |claim| {
            fill(claim, "apiVersion", "v1");
            fill(claim, "kind", "PersistentVolumeClaim");
            fill(claim, "status", json!({}));
            if let Some(spec) = child(claim, "spec") {
                fill(spec, "volumeMode", "Filesystem");
            }
            if let Some(status) = child(claim, "status") {
                fill(status, "phase", "Pending");
            }
        });
        default_template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.remove(MAX_UNAVAILABLE);
        object.set(&["status"], json!({"replicas": 0, "availableReplicas": 0}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        if old.get(MAX_UNAVAILABLE).is_none() {
            new.remove(MAX_UNAVAILABLE);
        }
        split_update(new, old, context);
    }

    fn name_rule(&self) -> NameRule {
        names::label
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        stateful_set::stateful_set(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { stateful_set::stateful_set_status(new, old) } else { stateful_set::stateful_set_update(new, old) }
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::stateful_set(object)
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![name(), string("Ready", "Number of the pod with ready state"), age(), containers, images]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let count = |path: &[&str]| object.int(path).unwrap_or(0);
        let [containers, images] = container_cells(template_spec(object.get(&["spec"]).unwrap_or(&Value::Null)));
        let ready = format!("{}/{}", count(&["status", "readyReplicas"]), count(&["spec", "replicas"]));
        vec![object.name().into(), ready.into(), age_of(object, clock).into(), containers, images]
    }
}

//! Deployments, replica sets, daemon sets, replication controllers and disruption budgets.

use serde_json::{Value, json};

use super::{Field, IMMUTABLE, labels, metadata, non_negative, pod};
use crate::{
    meta::Object,
    resources::{
        int_or_string::percent,
        tree::{at, int, text},
    },
    status::FieldError,
};

const UNREADABLE: &str = "invalid label selector";
const MISMATCH: &str = "`selector` does not match template `labels`";

fn spec(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// A field that must stay as it is.
pub fn immutable(new: &Object, old: &Object, path: &[&str]) -> Option<FieldError> {
    let changed = new.get(path) != old.get(path);
    changed.then(|| FieldError::invalid(path.join("."), new.get(path).cloned().unwrap_or_default(), IMMUTABLE))
}

/// A workload's selector, which is required, and its template, which is held to it where the selector can be read: otherwise `unreadable`
/// says so. `kind` and `controller` are what messages call the workload and who makes its pods.
pub(super) fn selector_and_template(errors: &mut Vec<FieldError>, spec: &Value, [kind, controller]: [&str; 2], unreadable: &str) {
    let selector = at(spec, &["selector"]);
    if selector.is_null() {
        errors.push(FieldError::required("spec.selector", ""));
    }
    if !is_readable(errors, selector, kind) {
        errors.push(FieldError::invalid("spec.selector", selector.clone(), unreadable));
        return;
    }
    matching(errors, spec);
    let template = at(spec, &["template"]);
    pod_template(errors, template, "spec.template");
    long_running(errors, template, controller);
}

/// Tells what is wrong with a selector. Whether labels can be held to it.
fn is_readable(errors: &mut Vec<FieldError>, selector: &Value, kind: &str) -> bool {
    let before = errors.len();
    labels::selector(errors, "spec.selector", selector);
    let is_readable = errors.len() == before;
    if !selector.is_null() && labels::is_empty(selector) {
        let detail = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::invalid("spec.selector", selector.clone(), detail));
    }
    is_readable
}

/// The pods of the template match the selector; none do where there is no selector.
fn matching(errors: &mut Vec<FieldError>, spec: &Value) {
    let (selector, labels) = (at(spec, &["selector"]), at(spec, &["template", "metadata", "labels"]));
    if selector.is_null() || !labels::matches(selector, labels) {
        errors.push(FieldError::invalid("spec.template.metadata.labels", labels.clone(), MISMATCH));
    }
}

fn long_running(errors: &mut Vec<FieldError>, template: &Value, kind: &str) {
    let policy = text(template, &["spec", "restartPolicy"]);
    if policy != "Always" {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if !at(template, &["spec", "activeDeadlineSeconds"]).is_null() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", detail));
    }
}

/// A pod template: labels, annotations and spec.
pub fn pod_template(errors: &mut Vec<FieldError>, template: &Value, field: &str) {
    labels::labels(errors, &format!("{field}.labels"), at(template, &["metadata", "labels"]));
    metadata::annotations(errors, &format!("{field}.annotations"), at(template, &["metadata", "annotations"]));
    let template = Field::root(field, template);
    let (spec, meta) = (template.child("spec"), template.child("metadata"));
    let annotations = template.child("annotations");
    let annotations = annotations.with(meta.child("annotations").value);
    pod::annotations::annotations(errors, &annotations, &spec);
    pod::pod_spec(errors, &spec, None);
    pod::annotations::match_fields(errors, &annotations, &spec);
    if !spec.child("ephemeralContainers").items().is_empty() {
        errors.push(spec.child("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template"));
    }
}

/// Checks a deployment.
pub fn deployment(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec(object), Vec::new());
    non_negative(&mut errors, spec, "spec", "replicas");
    selector_and_template(&mut errors, spec, ["deployment", "ReplicaSet"], UNREADABLE);
    strategy(&mut errors, at(spec, &["strategy"]));
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        non_negative(&mut errors, spec, "spec", field);
    }
    let deadline = at(spec, &["progressDeadlineSeconds"]);
    if deadline.as_i64().is_some_and(|deadline| deadline <= int(spec, &["minReadySeconds"])) {
        errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline.clone(), "must be greater than minReadySeconds"));
    }
    errors
}

fn strategy(errors: &mut Vec<FieldError>, strategy: &Value) {
    let rolling = at(strategy, &["rollingUpdate"]);
    match text(strategy, &["type"]) {
        "Recreate" if !rolling.is_null() => {
            errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            const FIELD: &str = "spec.strategy.rollingUpdate";
            let (unavailable, surge) = (at(rolling, &["maxUnavailable"]), at(rolling, &["maxSurge"]));
            int_or_percent(errors, &format!("{FIELD}.maxUnavailable"), unavailable);
            int_or_percent(errors, &format!("{FIELD}.maxSurge"), surge);
            if amount(unavailable) == 0 && amount(surge) == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(format!("{FIELD}.maxUnavailable"), unavailable.clone(), detail));
            }
            at_most_all(errors, &format!("{FIELD}.maxUnavailable"), unavailable);
        }
        _ => errors.push(FieldError::not_supported("spec.strategy", strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}

pub(super) fn int_or_percent(errors: &mut Vec<FieldError>, field: &str, value: &Value) {
    match value {
        Value::String(text) if percent(text).is_none() => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            errors.push(FieldError::invalid(field, text.as_str(), detail));
        }
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            errors.push(FieldError::invalid(field, value.clone(), "must be greater than or equal to 0"));
        }
        _ => {}
    }
}

pub(super) fn at_most_all(errors: &mut Vec<FieldError>, field: &str, value: &Value) {
    if value.as_str().and_then(percent).is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(field, value.clone(), "must not be greater than 100%"));
    }
}

/// The number, or the percentage as a number.
pub(super) fn amount(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str().and_then(percent).map(i64::from)).unwrap_or(0)
}

/// Checks the status of a deployment.
pub fn deployment_status(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = counts(
        new,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
    );
    not_above(&mut errors, new, &["updatedReplicas", "readyReplicas", "availableReplicas"], "cannot be greater than status.replicas");
    available_are_ready(&mut errors, new, "cannot be greater than readyReplicas");
    collisions(&mut errors, new, old);
    errors
}

pub(super) fn counts(object: &Object, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = object.get(&["status"]).unwrap_or(&Value::Null);
    for field in fields {
        non_negative(&mut errors, status, "status", field);
    }
    errors
}

pub(super) fn not_above(errors: &mut Vec<FieldError>, object: &Object, fields: &[&str], detail: &str) {
    let count = |field: &str| object.int(&["status", field]).unwrap_or(0);
    for field in fields {
        if count(field) > count("replicas") {
            errors.push(FieldError::invalid(format!("status.{field}"), count(field), detail));
        }
    }
}

/// No more pods are available than ready.
pub(super) fn available_are_ready(errors: &mut Vec<FieldError>, object: &Object, detail: &str) {
    let count = |field: &str| object.int(&["status", field]).unwrap_or(0);
    if count("availableReplicas") > count("readyReplicas") {
        errors.push(FieldError::invalid("status.availableReplicas", count("availableReplicas"), detail));
    }
}

/// Checks a replica set.
pub fn replica_set(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec(object), Vec::new());
    non_negative(&mut errors, spec, "spec", "replicas");
    non_negative(&mut errors, spec, "spec", "minReadySeconds");
    selector_and_template(&mut errors, spec, ["deployment", "ReplicaSet"], UNREADABLE);
    errors
}

/// Checks the status of a replica set or replication controller.
pub fn replica_status(new: &Object) -> Vec<FieldError> {
    let fields = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas", "observedGeneration"];
    let mut errors = counts(new, &fields);
    let detail = "cannot be greater than status.replicas";
    not_above(&mut errors, new, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], detail);
    available_are_ready(&mut errors, new, "cannot be greater than readyReplicas");
    errors
}

/// Checks a replication controller.
pub fn replication_controller(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec(object), Vec::new());
    non_negative(&mut errors, spec, "spec", "minReadySeconds");
    let selector = at(spec, &["selector"]);
    if crate::resources::tree::is_empty(selector, &[]) {
        errors.push(FieldError::required("spec.selector", ""));
    }
    non_negative(&mut errors, spec, "spec", "replicas");
    let template = at(spec, &["template"]);
    if template.is_null() {
        errors.push(FieldError::required("spec.template", ""));
        return errors;
    }
    let template_labels = at(template, &["metadata", "labels"]);
    if !labels::matches(&json!({"matchLabels": selector}), template_labels) {
        errors.push(FieldError::invalid("spec.template.metadata.labels", template_labels.clone(), MISMATCH));
    }
    pod_template(&mut errors, template, "spec.template");
    long_running(&mut errors, template, "ReplicationController");
    errors
}

/// Checks a daemon set.
pub fn daemon_set(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec(object), Vec::new());
    let mut found = Vec::new();
    if is_readable(&mut found, at(spec, &["selector"]), "daemonset") {
        matching(&mut errors, spec);
    }
    errors.append(&mut found);
    let template = at(spec, &["template"]);
    pod_template(&mut errors, template, "spec.template");
    long_running(&mut errors, template, "DaemonSet");
    non_negative(&mut errors, spec, "spec", "minReadySeconds");
    let strategy = at(spec, &["updateStrategy"]);
    match text(strategy, &["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => daemon_rolling(&mut errors, at(strategy, &["rollingUpdate"])),
        _ => errors.push(FieldError::not_supported("spec.updateStrategy", strategy.clone(), &["RollingUpdate", "OnDelete"])),
    }
    non_negative(&mut errors, spec, "spec", "revisionHistoryLimit");
    errors
}

fn daemon_rolling(errors: &mut Vec<FieldError>, rolling: &Value) {
    const FIELD: &str = "spec.updateStrategy.rollingUpdate";
    let (unavailable, surge) = (at(rolling, &["maxUnavailable"]), at(rolling, &["maxSurge"]));
    for (name, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
        int_or_percent(errors, &format!("{FIELD}.{name}"), value);
        at_most_all(errors, &format!("{FIELD}.{name}"), value);
    }
    match (amount(unavailable) != 0, amount(surge) != 0) {
        (true, true) => {
            errors.push(FieldError::invalid(format!("{FIELD}.maxSurge"), surge.clone(), "may not be set when maxUnavailable is non-zero"))
        }
        (false, false) => errors.push(FieldError::required(format!("{FIELD}.maxUnavailable"), "cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

/// Checks the status of a daemon set.
pub fn daemon_set_status(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = counts(
        new,
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
    );
    collisions(&mut errors, new, old);
    errors
}

/// How often names collided is never forgotten.
pub(super) fn collisions(errors: &mut Vec<FieldError>, new: &Object, old: &Object) {
    let count = |object: &Object| object.int(&["status", "collisionCount"]);
    let (now, before) = (count(new), count(old));
    if before.is_some_and(|before| now.is_none_or(|now| now < before)) {
        errors.push(FieldError::invalid("status.collisionCount", now.unwrap_or(0), "cannot be decremented"));
    }
}

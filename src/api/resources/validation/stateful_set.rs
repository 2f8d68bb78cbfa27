//! Stateful sets.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{
    non_negative, volume_claim,
    workload::{amount, at_most_all, available_are_ready, collisions, counts, int_or_percent, not_above, selector_and_template},
};
use crate::{
    meta::{Object, names},
    resources::tree::{at, items, text},
    status::FieldError,
};

fn spec(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// Checks a new stateful set.
pub fn stateful_set(object: &Object) -> Vec<FieldError> {
    let mut errors = stateful_spec(spec(object));
    for (index, claim) in items(spec(object), &["volumeClaimTemplates"]).iter().enumerate() {
        volume_claim::claim_template(&mut errors, at(claim, &["spec"]), &format!("spec.volumeClaimTemplates[{index}].spec"));
    }
    let service = text(spec(object), &["serviceName"]);
    if !service.is_empty() {
        super::invalid_each(&mut errors, "spec.serviceName", service, names::label(service, false));
    }
    errors
}

fn stateful_spec(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match text(spec, &["podManagementPolicy"]) {
        "" => errors.push(FieldError::required("spec.podManagementPolicy", "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(FieldError::invalid("spec.podManagementPolicy", other, "must be 'OrderedReady' or 'Parallel'")),
    }
    strategy(&mut errors, at(spec, &["updateStrategy"]));
    for field in ["whenDeleted", "whenScaled"] {
        let value = text(spec, &["persistentVolumeClaimRetentionPolicy", field]);
        if !["Retain", "Delete"].contains(&value) {
            let path = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
            errors.push(FieldError::not_supported(path, value, &["Retain", "Delete"]));
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        non_negative(&mut errors, spec, "spec", field);
    }
    non_negative(&mut errors, at(spec, &["ordinals"]), "spec.ordinals", "start");
    selector_and_template(&mut errors, &as_controlled(spec), ["statefulset", "StatefulSet"], "");
    errors
}

fn strategy(errors: &mut Vec<FieldError>, strategy: &Value) {
    const FIELD: &str = "spec.updateStrategy.rollingUpdate";
    let rolling = at(strategy, &["rollingUpdate"]);
    match text(strategy, &["type"]) {
        "" => errors.push(FieldError::required("spec.updateStrategy", "")),
        "OnDelete" if !rolling.is_null() => {
            errors.push(FieldError::invalid(FIELD, rolling.clone(), "only allowed for updateStrategy 'RollingUpdate'"));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            non_negative(errors, rolling, FIELD, "partition");
            let most = at(rolling, &["maxUnavailable"]);
            let field = format!("{FIELD}.maxUnavailable");
            int_or_percent(errors, &field, most);
            if !most.is_null() && amount(most) == 0 {
                errors.push(FieldError::invalid(field.as_str(), most.clone(), "cannot be 0"));
            }
            at_most_all(errors, &field, most);
        }
        _ => errors.push(FieldError::invalid("spec.updateStrategy", strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'")),
    }
}

/// The spec with the pods that the controller makes of it: they have volumes named as the claim templates, and its names.
fn as_controlled(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let names: Vec<String> = items(&spec, &["volumeClaimTemplates"]).iter().map(|claim| text(claim, &["metadata", "name"]).to_owned()).collect();
    let known: HashSet<&str> = names.iter().map(String::as_str).collect();
    let own: Vec<Value> = items(&spec, &["template", "spec", "volumes"]).to_vec();
    let Some(pod) = spec.get_mut("template").and_then(|template| template.get_mut("spec")).and_then(Value::as_object_mut) else { return spec };
    pod.remove("hostname");
    pod.remove("subdomain");
    if !names.is_empty() {
        let mut volumes: Vec<Value> = names.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
        volumes.extend(own.into_iter().filter(|volume| !known.contains(text(volume, &["name"]))));
        pod.insert("volumes".into(), volumes.into());
    }
    spec
}

/// Checks a changed stateful set.
pub fn stateful_set_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = stateful_spec(spec(new));
    let fixed = |object: &Object| {
        let mut spec = spec(object).clone();
        for field in
            ["replicas", "template", "updateStrategy", "minReadySeconds", "ordinals", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy"]
        {
            spec.as_object_mut().map(|fields| fields.remove(field));
        }
        spec
    };
    if fixed(new) != fixed(old) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(FieldError::forbidden("spec", detail));
    }
    errors
}

/// Checks the status of a stateful set.
pub fn stateful_set_status(new: &Object, old: &Object) -> Vec<FieldError> {
    let fields = ["replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas", "observedGeneration", "collisionCount"];
    let mut errors = counts(new, &fields);
    not_above(
        &mut errors,
        new,
        &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
        "cannot be greater than status.replicas",
    );
    available_are_ready(&mut errors, new, "cannot be greater than status.readyReplicas");
    collisions(&mut errors, new, old);
    errors
}

//! What may change in a pod, and through which subresource.

use serde_json::Value;

use crate::{
    meta::Object,
    resources::{
        kinds::reset_metadata,
        tree::{at, int, items, text},
    },
    status::FieldError,
};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// On a status update: owners and class stay, and conditions keep the generation they were observed at.
pub fn keep_kubelet_facts(new: &mut Object, old: &Object) {
    match old.get(&["metadata", "ownerReferences"]) {
        Some(owners) => new.set(&["metadata", "ownerReferences"], owners.clone()),
        None => drop(new.remove(&["metadata", "ownerReferences"])),
    }
    for field in ["qosClass", "observedGeneration"] {
        if let Some(value) = old.get(&["status", field]) {
            new.set_default(&["status", field], value.clone());
        }
    }
    let mut seen = old.list(&["status", "conditions"]).to_vec();
    let conditions = new.map_mut(&["status"]).get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let Some(index) = seen.iter().position(|old| text(old, &["type"]) == text(condition, &["type"])) else { continue };
        let generation = int(&seen.remove(index), &["observedGeneration"]);
        if generation != 0 && int(condition, &["observedGeneration"]) == 0 {
            condition["observedGeneration"] = generation.into();
        }
    }
}

/// On an update of `ephemeralcontainers`: everything else stays.
pub fn keep_all_but_ephemeral_containers(new: &mut Object, old: &Object) {
    let containers = new.remove(&["spec", "ephemeralContainers"]);
    restore(new, old);
    match containers {
        Some(containers) => new.set(&["spec", "ephemeralContainers"], containers),
        None => drop(new.remove(&["spec", "ephemeralContainers"])),
    }
}

/// On an update of `resize`: only resources and resize policies of the same containers may change.
/// Containers that do not match are left for validation to reject.
pub fn keep_all_but_resources(new: &mut Object, old: &Object) {
    let names = |pod: &Object, list: &str| pod.list(&["spec", list]).iter().map(|c| text(c, &["name"]).to_owned()).collect::<Vec<_>>();
    let lists = ["containers", "initContainers"];
    if lists.iter().any(|list| names(new, list) != names(old, list)) {
        return;
    }
    let wanted = new.clone();
    restore(new, old);
    for list in lists {
        let Some(Value::Array(containers)) = new.map_mut(&["spec"]).get_mut(list) else { continue };
        for (container, wanted) in containers.iter_mut().zip(wanted.list(&["spec", list])) {
            for field in ["resources", "resizePolicy"] {
                container[field] = at(wanted, &[field]).clone();
            }
            if let Some(fields) = container.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
        }
    }
}

fn restore(new: &mut Object, old: &Object) {
    reset_metadata(new, old);
    for field in ["spec", "status"] {
        match old.get(&[field]) {
            Some(value) => new.set(&[field], value.clone()),
            None => drop(new.remove(&[field])),
        }
    }
}

/// Checks an update of the pod itself.
pub fn validate(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = super::validation::spec(new);
    for list in ["containers", "initContainers"] {
        if new.list(&["spec", list]).len() != old.list(&["spec", list]).len() {
            errors.push(FieldError::forbidden(format!("spec.{list}"), "pod updates may not add or remove containers"));
            return errors;
        }
    }
    deadline(new, old, &mut errors);
    tolerations(new, old, &mut errors);
    gates(new, old, &mut errors);
    node_selector(new, old, &mut errors);
    let (munged, original) = (munged_spec(new, old), old.get(&["spec"]).cloned().unwrap_or_default());
    if munged != original {
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{}", difference("", &original, &munged));
        errors.push(FieldError::forbidden("spec", detail));
    }
    errors
}

/// The new spec with what may change set back to the old.
fn munged_spec(new: &Object, old: &Object) -> Value {
    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = munged.map_mut(&["spec"]).get_mut(list) else { continue };
        for (container, before) in containers.iter_mut().zip(old.list(&["spec", list])) {
            container["image"] = at(before, &["image"]).clone();
        }
    }
    let gated = !old.list(&["spec", "schedulingGates"]).is_empty();
    let mut back = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if gated {
        back.push("nodeSelector");
    }
    if old.int(&["spec", "terminationGracePeriodSeconds"]).is_some_and(|s| s < 0) && new.int(&["spec", "terminationGracePeriodSeconds"]) == Some(1) {
        back.push("terminationGracePeriodSeconds");
    }
    for field in back {
        match old.get(&["spec", field]) {
            Some(value) => munged.set(&["spec", field], value.clone()),
            None => drop(munged.remove(&["spec", field])),
        }
    }
    munged.get(&["spec"]).cloned().unwrap_or_default()
}

fn deadline(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let path = ["spec", "activeDeadlineSeconds"];
    match (new.int(&path), old.int(&path)) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            errors.push(FieldError::invalid(FIELD, now, "must be between 0 and 2147483647, inclusive"));
        }
        (Some(now), Some(before)) if before < now => errors.push(FieldError::invalid(FIELD, now, "must be less than or equal to previous value")),
        (None, Some(_)) => errors.push(FieldError::invalid(FIELD, Value::Null, "must not update from a positive integer to nil value")),
        _ => {}
    }
}

fn tolerations(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    let kept = |toleration: &&Value| {
        new.list(&["spec", "tolerations"]).iter().any(|other| {
            let differs = |field: &str| at(other, &[field]) != at(toleration, &[field]);
            !["key", "operator", "value", "effect"].iter().any(|field| differs(field))
        })
    };
    if !old.list(&["spec", "tolerations"]).iter().all(|toleration| kept(&toleration)) {
        errors.push(FieldError::forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"));
    }
}

fn gates(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    let before = old.list(&["spec", "schedulingGates"]);
    for gate in new.list(&["spec", "schedulingGates"]) {
        if !before.contains(gate) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, &["name"]));
            errors.push(FieldError::forbidden("spec.schedulingGates", detail));
        }
    }
}

/// A gated pod's node selector may only grow.
fn node_selector(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    if old.list(&["spec", "schedulingGates"]).is_empty() {
        return;
    }
    for (key, value) in old.get(&["spec", "nodeSelector"]).and_then(Value::as_object).into_iter().flatten() {
        if new.get(&["spec", "nodeSelector", key]) != Some(value) {
            let now = new.get(&["spec", "nodeSelector"]).cloned().unwrap_or_default();
            errors.push(FieldError::invalid("spec.nodeSelector", now, "only additions are allowed (no mutations or deletions)"));
            return;
        }
    }
}

/// The fields that differ, one a line.
fn difference(path: &str, old: &Value, new: &Value) -> String {
    if let (Value::Object(before), Value::Object(after)) = (old, new) {
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let parts = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        return parts.map(|name| difference(&format!("{path}.{name}"), at(old, &[name]), at(new, &[name]))).collect();
    }
    format!("  {}: - {old} + {new}\n", path.trim_start_matches('.'))
}

/// Checks a status update.
pub fn validate_status(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if new.str(&["spec", "nodeName"]) != old.str(&["spec", "nodeName"]) {
        errors.push(FieldError::forbidden("status.nodeName", "may not be changed directly"));
    }
    if new.str(&["status", "qosClass"]) != old.str(&["status", "qosClass"]) {
        errors.push(FieldError::invalid("status.qosClass", new.str(&["status", "qosClass"]), "field is immutable"));
    }
    if old.str(&["spec", "restartPolicy"]) != "Always" {
        restarts(new, old, &mut errors);
    }
    errors
}

/// A container that ended for good must not run again.
fn restarts(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    let policy = old.str(&["spec", "restartPolicy"]);
    for (index, before) in old.list(&["status", "containerStatuses"]).iter().enumerate() {
        let ended = at(before, &["state", "terminated"]);
        let retry = policy == "OnFailure" && int(ended, &["exitCode"]) != 0;
        let own_policy =
            old.list(&["spec", "containers"]).iter().any(|c| text(c, &["name"]) == text(before, &["name"]) && !at(c, &["restartPolicy"]).is_null());
        if !ended.is_object() || retry || own_policy {
            continue;
        }
        let now = new.list(&["status", "containerStatuses"]).iter().find(|status| text(status, &["name"]) == text(before, &["name"]));
        if now.is_some_and(|status| !at(status, &["state", "terminated"]).is_object()) {
            errors.push(FieldError::forbidden(format!("status.containerStatuses[{index}].state"), "may not be transitioned to non-terminated state"));
        }
    }
}

/// Checks an update of `ephemeralcontainers`: existing ones stay as they are.
pub fn validate_ephemeral_containers(new: &Object, old: &Object) -> Vec<FieldError> {
    const FIELD: &str = "spec.ephemeralContainers";
    if old.annotation("kubernetes.io/config.mirror").is_some() {
        return vec![FieldError::forbidden("", "static pods do not support ephemeral containers")];
    }
    let mut errors = super::validation::spec(new);
    for before in old.list(&["spec", "ephemeralContainers"]) {
        let name = text(before, &["name"]);
        match new.list(&["spec", "ephemeralContainers"]).iter().find(|container| text(container, &["name"]) == name) {
            None => errors.push(FieldError::forbidden(FIELD, format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(now) if now != before => {
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{}", difference("", before, now));
                errors.push(FieldError::forbidden(FIELD, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

/// Checks an update of `resize`.
pub fn validate_resize(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = super::validation::spec(new);
    if old.annotation("kubernetes.io/config.mirror").is_some() {
        return vec![FieldError::forbidden("", "static pods cannot be resized")];
    }
    if super::qos_class(new) != old.str(&["status", "qosClass"]) && !old.str(&["status", "qosClass"]).is_empty() {
        errors.push(FieldError::invalid(
            "spec.containers[*].resources",
            super::qos_class(new),
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    for (index, before) in old.list(&["spec", "containers"]).iter().enumerate() {
        let Some(now) = items(&Value::Object(new.root().clone()), &["spec", "containers"]).get(index).cloned() else { continue };
        for kind in ["limits", "requests"] {
            let names = |c: &Value| c.get("resources").and_then(|r| r.get(kind)).and_then(Value::as_object).cloned().unwrap_or_default();
            if let Some(gone) = names(before).keys().find(|name| !names(&now).contains_key(*name)) {
                let detail = format!("{} cannot be removed", if kind == "limits" { "resource limits" } else { "resource requests" });
                errors.push(FieldError::forbidden(format!("spec.containers[{index}].resources.{kind}[{gone}]"), detail));
            }
        }
    }
    errors
}

//! The `resize` subresource: changes how much CPU and memory a pod's containers may use, and nothing else.

use serde_json::{Map, Value, json};

use super::{update::restore, validation};
use crate::{
    meta::Object,
    resources::{
        tree::{at, items, text},
        validation::pod::annotations,
    },
    status::FieldError,
};

const LISTS: [&str; 2] = ["containers", "initContainers"];
const RESIZED: [&str; 2] = ["cpu", "memory"];

fn spec(pod: &Object) -> &Value {
    pod.get(&["spec"]).unwrap_or(&Value::Null)
}

fn names(pod: &Object, list: &str) -> Vec<String> {
    pod.list(&["spec", list]).iter().map(|container| text(container, &["name"]).to_owned()).collect()
}

/// On an update of `resize`: only resources and resize policies of the same containers may change.
/// Containers that do not match are left for validation to reject.
pub fn keep_all_but_resources(new: &mut Object, old: &Object) {
    if LISTS.iter().any(|list| names(new, list) != names(old, list)) {
        return;
    }
    let wanted = new.clone();
    restore(new, old);
    match wanted.get(&["spec", "resources"]) {
        Some(whole) => new.set(&["spec", "resources"], whole.clone()),
        None => drop(new.remove(&["spec", "resources"])),
    }
    for list in LISTS {
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

/// Checks an update of `resize`.
pub fn validate_resize(new: &Object, old: &Object) -> Vec<FieldError> {
    if old.annotation("kubernetes.io/config.mirror").is_some() {
        return vec![FieldError::forbidden("", "static pods cannot be resized")];
    }
    if text(spec(old), &["os", "name"]) == "windows" {
        return vec![FieldError::forbidden("", "windows pods cannot be resized")];
    }
    let mut errors = validation::spec(new);
    annotations::update(&mut errors, &validation::annotations_of(new), &validation::annotations_of(old));
    let class = match old.str(&["status", "qosClass"]) {
        "" => super::qos_class(old),
        class => class,
    };
    if super::qos_class(new) != class {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", new.str(&["status", "qosClass"]), detail));
    }
    if !is_supported(old) {
        errors.push(FieldError::forbidden("spec", "Pod running on node without support for resize"));
    }
    whole_pod(&mut errors, new, old);
    if !old.list(&["status", "nodeAllocatableResourceClaimStatuses"]).is_empty() {
        errors.push(FieldError::forbidden("spec", "pods with node allocatable resource claims cannot be resized"));
    }
    if same_containers(&mut errors, new, old) {
        for list in LISTS {
            for (index, (now, before)) in new.list(&["spec", list]).iter().zip(old.list(&["spec", list])).enumerate() {
                container(&mut errors, now, before, list, index);
            }
        }
    }
    errors
}

/// A node that knows of resizing says what its containers really have.
fn is_supported(old: &Object) -> bool {
    let running = old.list(&["status", "containerStatuses"]).iter().find(|status| !at(status, &["state", "running"]).is_null());
    running.is_none_or(|status| !at(status, &["resources"]).is_null())
}

fn same_containers(errors: &mut Vec<FieldError>, new: &Object, old: &Object) -> bool {
    let before = errors.len();
    for list in LISTS {
        let (now, was) = (names(new, list), names(old, list));
        if now.len() != was.len() {
            errors.push(FieldError::forbidden(format!("spec.{list}"), format!("{list} may not be added or removed on resize")));
            continue;
        }
        for (index, _) in now.iter().zip(&was).enumerate().filter(|(_, (now, was))| now != was) {
            let detail = format!("{list} may not be renamed or reordered on resize");
            errors.push(FieldError::forbidden(format!("spec.{list}[{index}].name"), detail));
        }
    }
    errors.len() == before
}

fn removed(now: &Value, before: &Value, kind: &str) -> bool {
    let amounts = |resources: &Value| at(resources, &[kind]).as_object().cloned().unwrap_or_default();
    let now = amounts(now);
    amounts(before).keys().any(|name| !now.contains_key(name))
}

/// Resources without what may change.
fn fixed(resources: &Value) -> Value {
    let rest = |kind: &str| {
        let amounts = at(resources, &[kind]).as_object().into_iter().flatten();
        amounts.filter(|(name, _)| !RESIZED.contains(&name.as_str())).map(|(name, amount)| (name.clone(), amount.clone())).collect::<Map<_, _>>()
    };
    json!({"limits": rest("limits"), "requests": rest("requests"), "claims": items(resources, &["claims"])})
}

fn whole_pod(errors: &mut Vec<FieldError>, new: &Object, old: &Object) {
    let (now, before) = (at(spec(new), &["resources"]), at(spec(old), &["resources"]));
    if now.is_null() && !before.is_null() {
        errors.push(FieldError::forbidden("spec.resources", "pod-level resources cannot be removed"));
        return;
    }
    for kind in ["requests", "limits"] {
        if removed(now, before, kind) {
            errors.push(FieldError::forbidden(format!("spec.resources.{kind}"), format!("pod-level resource {kind} cannot be removed")));
        }
    }
    if fixed(now) != fixed(before) {
        errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable at pod-level"));
    }
}

fn container(errors: &mut Vec<FieldError>, now: &Value, before: &Value, list: &str, index: usize) {
    let field = format!("spec.{list}[{index}]");
    let (resources, old_resources) = (at(now, &["resources"]), at(before, &["resources"]));
    for kind in ["requests", "limits"] {
        if removed(resources, old_resources, kind) {
            errors.push(FieldError::forbidden(format!("{field}.resources.{kind}"), format!("resource {kind} cannot be removed")));
        }
    }
    let policies = |container: &Value| items(container, &["resizePolicy"]).to_vec();
    if fixed(resources) != fixed(old_resources) || policies(now) != policies(before) {
        let error = match list {
            "containers" => FieldError::forbidden("spec", "only cpu and memory resources are mutable"),
            _ => FieldError::forbidden(field.as_str(), "only cpu and memory resources for init or sidecar containers are mutable"),
        };
        errors.push(error);
    }
    let ends = list == "initContainers" && text(now, &["restartPolicy"]) != "Always";
    if ends && now != before && policies(now).iter().any(|policy| text(policy, &["restartPolicy"]) == "RestartContainer") {
        let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        errors.push(FieldError::forbidden(field, detail));
    }
}

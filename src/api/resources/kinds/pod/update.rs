//! What may change in a pod, and through which subresource.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde_json::Value;

use crate::{
    meta::Object,
    resources::{
        kinds::reset_metadata,
        tree::{at, int, items, text},
        validation::pod::annotations,
    },
    status::FieldError,
};

const DEADLINE: [&str; 2] = ["spec", "activeDeadlineSeconds"];
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
    let mut seen = HashMap::<&str, VecDeque<i64>>::new();
    for condition in old.list(&["status", "conditions"]) {
        seen.entry(text(condition, &["type"])).or_default().push_back(int(condition, &["observedGeneration"]));
    }
    let conditions = new.map_mut(&["status"]).get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let Some(generation) = seen.get_mut(text(condition, &["type"])).and_then(VecDeque::pop_front) else { continue };
        if generation != 0 && int(condition, &["observedGeneration"]) == 0 {
            condition["observedGeneration"] = generation.into();
        }
    }
}

/// Takes all changes back but those of metadata that anybody may make.
pub fn restore(new: &mut Object, old: &Object) {
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
    annotations::update(&mut errors, &super::validation::annotations_of(new), &super::validation::annotations_of(old));
    for list in ["containers", "initContainers"] {
        if new.list(&["spec", list]).len() != old.list(&["spec", list]).len() {
            errors.push(FieldError::forbidden(format!("spec.{list}"), "pod updates may not add or remove containers"));
            return errors;
        }
    }
    if let Some(error) = deadline(new, old) {
        errors.push(error);
        if new.int(&DEADLINE).is_some() {
            return errors;
        }
    }
    tolerations(new, old, &mut errors);
    gates(new, old, &mut errors);
    node_selector(new, old, &mut errors);
    node_affinity(new, old, &mut errors);
    let (munged, original) = (settled(munged_spec(new, old)), settled(old.get(&["spec"]).cloned().unwrap_or_default()));
    if munged != original {
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{}", difference("", &original, &munged));
        errors.push(FieldError::forbidden("spec", detail));
    }
    errors
}

/// A spec without empty fields, which mean the same as missing ones.
fn settled(mut spec: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !is_empty(value));
    }
    spec
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
    let mut back = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if is_gated(old) {
        back.push("nodeSelector");
    }
    if old.int(&["spec", "terminationGracePeriodSeconds"]).is_some_and(|s| s < 0) && new.int(&["spec", "terminationGracePeriodSeconds"]) == Some(1) {
        back.push("terminationGracePeriodSeconds");
    }
    for field in back {
        put_back(&mut munged, old, &["spec", field]);
    }
    if is_gated(old) {
        put_back(&mut munged, old, &["spec", "affinity", "nodeAffinity"]);
        let emptied = munged.get(&["spec", "affinity"]).is_some_and(|affinity| affinity.as_object().is_none_or(serde_json::Map::is_empty));
        if emptied && old.get(&["spec", "affinity"]).is_none() {
            munged.remove(&["spec", "affinity"]);
        }
    }
    munged.get(&["spec"]).cloned().unwrap_or_default()
}

fn put_back(munged: &mut Object, old: &Object, path: &[&str]) {
    match old.get(path) {
        Some(value) => munged.set(path, value.clone()),
        None => drop(munged.remove(path)),
    }
}

fn is_gated(old: &Object) -> bool {
    !old.list(&["spec", "schedulingGates"]).is_empty()
}

fn deadline(new: &Object, old: &Object) -> Option<FieldError> {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    match (new.int(&DEADLINE), old.int(&DEADLINE)) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            Some(FieldError::invalid(FIELD, now, "must be between 0 and 2147483647, inclusive"))
        }
        (Some(now), Some(before)) if before < now => Some(FieldError::invalid(FIELD, now, "must be less than or equal to previous value")),
        (None, Some(_)) => Some(FieldError::invalid(FIELD, Value::Null, "must not update from a positive integer to nil value")),
        _ => None,
    }
}

fn tolerations(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    let fixed = |toleration: &Value| ["key", "operator", "value", "effect"].map(|field| text(toleration, &[field]).to_owned());
    let now: BTreeSet<_> = new.list(&["spec", "tolerations"]).iter().map(fixed).collect();
    if !old.list(&["spec", "tolerations"]).iter().all(|toleration| now.contains(&fixed(toleration))) {
        errors.push(FieldError::forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"));
    }
}

fn gates(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    let before: BTreeSet<&str> = old.list(&["spec", "schedulingGates"]).iter().map(|gate| text(gate, &["name"])).collect();
    let added: BTreeMap<&str, usize> = new.list(&["spec", "schedulingGates"]).iter().map(|gate| text(gate, &["name"])).zip(0..).collect();
    for (name, index) in added.into_iter().filter(|(name, _)| !before.contains(name)) {
        let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        errors.push(FieldError::forbidden(format!("spec.schedulingGates[{index}].name"), detail));
    }
}

/// A gated pod's node selector may only grow.
fn node_selector(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    if !is_gated(old) {
        return;
    }
    for (key, value) in old.get(&["spec", "nodeSelector"]).and_then(Value::as_object).into_iter().flatten() {
        if new.get(&["spec", "nodeSelector", key]) != Some(value) {
            let now = new.get(&["spec", "nodeSelector"]).cloned().unwrap_or_default();
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid("spec.nodeSelector", now, detail));
            return;
        }
    }
}

/// The terms that a gated pod's node must meet may only grow, each for itself.
fn node_affinity(new: &Object, old: &Object, errors: &mut Vec<FieldError>) {
    const PATH: [&str; 5] = ["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    let (before, now) = (old.list(&PATH), new.list(&PATH));
    if !is_gated(old) || before.is_empty() {
        return;
    }
    if before.len() != now.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(PATH.join("."), now.to_vec(), detail));
        return;
    }
    for (index, (before, now)) in before.iter().zip(now).enumerate() {
        if !only_added(before, now) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(format!("{}[{index}]", PATH.join(".")), now.clone(), detail));
        }
    }
}

fn only_added(before: &Value, now: &Value) -> bool {
    const PARTS: [&str; 2] = ["matchExpressions", "matchFields"];
    let was_empty = PARTS.iter().all(|part| items(before, &[part]).is_empty());
    let is_empty = PARTS.iter().all(|part| items(now, &[part]).is_empty());
    (!was_empty || is_empty) && PARTS.iter().all(|part| items(now, &[part]).starts_with(items(before, &[part])))
}

/// The fields that differ, one a line.
pub fn difference(path: &str, old: &Value, new: &Value) -> String {
    if let (Value::Object(before), Value::Object(after)) = (old, new) {
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let parts = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        return parts.map(|name| difference(&format!("{path}.{name}"), at(old, &[name]), at(new, &[name]))).collect();
    }
    format!("  {}: - {old} + {new}\n", path.trim_start_matches('.'))
}

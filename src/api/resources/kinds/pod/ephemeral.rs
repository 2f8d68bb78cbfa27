//! The `ephemeralcontainers` subresource: adds visitors to a pod, and nothing else.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    update::{difference, restore},
    validation,
};
use crate::{
    meta::Object,
    resources::{tree::text, validation::pod::annotations},
    status::FieldError,
};

/// On an update of `ephemeralcontainers`: everything else stays.
pub fn keep_all_but_ephemeral_containers(new: &mut Object, old: &Object) {
    let containers = new.remove(&["spec", "ephemeralContainers"]);
    restore(new, old);
    match containers {
        Some(containers) => new.set(&["spec", "ephemeralContainers"], containers),
        None => drop(new.remove(&["spec", "ephemeralContainers"])),
    }
}

/// Checks an update of `ephemeralcontainers`: existing ones stay as they are.
pub fn validate_ephemeral_containers(new: &Object, old: &Object) -> Vec<FieldError> {
    const FIELD: &str = "spec.ephemeralContainers";
    if old.annotation("kubernetes.io/config.mirror").is_some() {
        return vec![FieldError::forbidden("", "static pods do not support ephemeral containers")];
    }
    let mut errors = validation::spec(new);
    annotations::update(&mut errors, &validation::annotations_of(new), &validation::annotations_of(old));
    let now: BTreeMap<&str, &Value> =
        new.list(&["spec", "ephemeralContainers"]).iter().map(|container| (text(container, &["name"]), container)).collect();
    for before in old.list(&["spec", "ephemeralContainers"]) {
        let name = text(before, &["name"]);
        match now.get(name) {
            None => errors.push(FieldError::forbidden(FIELD, format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(now) if *now != before => {
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{}", difference("", before, now));
                errors.push(FieldError::forbidden(FIELD, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

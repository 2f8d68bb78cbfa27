//! Annotations that mean something to pods.

use serde_json::Value;

use super::super::{Field, path};
use crate::{resources::tree::text, status::FieldError};

const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const LOCALHOST: &str = "localhost/";

/// Checks what annotations of a pod or template say about its spec.
pub fn annotations(errors: &mut Vec<FieldError>, annotations: &Field<'_>, spec: &Field<'_>) {
    if !annotations.is_set() {
        return;
    }
    let mirror = annotations.key(MIRROR);
    if mirror.is_set() && spec.child("nodeName").text().is_empty() {
        errors.push(mirror.invalid("must set spec.nodeName if mirror pod annotation is set"));
    }
    tolerations(errors, annotations);
    let cost = annotations.key(DELETION_COST);
    if !cost.text().is_empty() && !is_cost(cost.text()) {
        errors.push(cost.invalid("must be a 32bit integer"));
    }
    for (key, value) in annotations.entries().filter(|(key, _)| *key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER)) {
        seccomp(errors, &annotations.child(key).with(value.value));
    }
    app_armor(errors, annotations, spec);
}

fn tolerations(errors: &mut Vec<FieldError>, annotations: &Field<'_>) {
    let written = annotations.key(TOLERATIONS).text();
    if written.is_empty() {
        return;
    }
    match serde_json::from_str::<Vec<Value>>(written) {
        Ok(list) => {
            let (list, annotation) = (Value::from(list), annotations.child(TOLERATIONS));
            super::tolerations(errors, &annotation.with(&list));
            super::refuse_comparisons(errors, &annotation.with(&list));
        }
        Err(error) => errors.push(annotations.invalid_as(TOLERATIONS, error.to_string())),
    }
}

/// A whole number of 32 bits, without a plus or leading zeros.
fn is_cost(text: &str) -> bool {
    let plain = text == "0" || text.starts_with(['-', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    plain && text.parse::<i32>().is_ok()
}

fn seccomp(errors: &mut Vec<FieldError>, profile: &Field<'_>) {
    match profile.text() {
        "runtime/default" | "docker/default" | "unconfined" => {}
        text => match text.strip_prefix(LOCALHOST) {
            Some(local) => path::descending(errors, &profile.with(&local.into())),
            None => errors.push(profile.invalid("must be a valid seccomp profile")),
        },
    }
}

fn app_armor(errors: &mut Vec<FieldError>, annotations: &Field<'_>, spec: &Field<'_>) {
    let profiles = || annotations.entries().filter_map(|(key, value)| Some((key.strip_prefix(APP_ARMOR)?, value)));
    if profiles().next().is_none() {
        return;
    }
    let mut names = std::collections::BTreeSet::new();
    super::visit_containers(spec, |container| {
        names.insert(container.child("name").text().to_owned());
    });
    for (container, profile) in profiles() {
        if !names.contains(container) {
            errors.push(profile.invalid_as(container, "container not found"));
        }
        let text = profile.text();
        if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with(LOCALHOST) {
            errors.push(profile.invalid(format!("invalid AppArmor profile name: {text:?}")));
        }
    }
}

/// Checks that annotations say the same as the fields that came after them.
pub fn match_fields(errors: &mut Vec<FieldError>, annotations: &Field<'_>, spec: &Field<'_>) {
    if !annotations.is_set() {
        return;
    }
    let context = spec.child("securityContext");
    let (pod_seccomp, pod_app_armor) = (context.child("seccompProfile"), context.child("appArmorProfile"));
    agree(errors, &annotations.key(SECCOMP_POD), &pod_seccomp, pod_seccomp.value, "seccomp");
    let on_windows = text(spec.value, &["os", "name"]) == "windows";
    super::visit_containers(spec, |container| {
        let (name, context) = (container.child("name").text(), container.child("securityContext"));
        let seccomp = context.child("seccompProfile");
        agree(errors, &annotations.key(&format!("{SECCOMP_CONTAINER}{name}")), &seccomp, seccomp.value, "seccomp");
        let app_armor = context.child("appArmorProfile");
        let profile = if app_armor.is_set() { app_armor.value } else { pod_app_armor.value };
        if !on_windows {
            agree(errors, &annotations.key(&format!("{APP_ARMOR}{name}")), &app_armor, profile, "apparmor");
        }
    });
}

fn agree(errors: &mut Vec<FieldError>, annotation: &Field<'_>, shown: &Field<'_>, profile: &Value, what: &str) {
    if !annotation.is_set() || profile.is_null() {
        return;
    }
    let said = annotation.text();
    let same = match text(profile, &["type"]) {
        "Unconfined" => said == "unconfined",
        "RuntimeDefault" => said == "runtime/default" || (what == "seccomp" && said == "docker/default"),
        "Localhost" => match said.strip_prefix(LOCALHOST) {
            Some(local) if Some(local) != profile.get("localhostProfile").and_then(Value::as_str) => {
                return errors.push(shown.child("localhostProfile").forbidden(format!("{what} profile in annotation and field must match")));
            }
            local => local.is_some(),
        },
        _ => true,
    };
    if !same {
        errors.push(shown.child("type").forbidden(format!("{what} type in annotation and field must match")));
    }
}

/// Checks what an update does to annotations that are settled when a pod is made.
pub fn update(errors: &mut Vec<FieldError>, new: &Field<'_>, old: &Field<'_>) {
    for (key, before) in old.entries() {
        if new.key(key).value == before.value {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.push(new.key(key).forbidden("may not remove or update AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(new.key(key).forbidden("may not remove or update mirror pod annotation"));
        }
    }
    for (key, added) in new.entries().filter(|(key, _)| !old.key(key).is_set()) {
        if key.starts_with(APP_ARMOR) {
            errors.push(added.forbidden("may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(added.forbidden("may not add mirror pod annotation"));
        }
    }
}

//! Checks of status updates: a pod's past is not rewritten, and what others read from it makes sense.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::validation::annotations_of;
use crate::{
    meta::{Object, names},
    resources::{
        tree::{at, int, items, text},
        validation::{Field, IMMUTABLE, between, pod::annotations},
    },
    status::FieldError,
};

const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
/// The lists of statuses and of the containers that they are of.
const LISTS: [(&str, &str); 3] =
    [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers"), ("ephemeralContainerStatuses", "ephemeralContainers")];
const LONGEST_MESSAGE: usize = 1024;
const LONGEST_IMAGE: usize = 256;
const NOT_NEGATIVE: &str = "must be a non-negative integer";

/// Checks a status update.
pub fn validate_status(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let none = &Value::Null;
    let (spec, new_value, old_value) =
        (old.get(&["spec"]).unwrap_or(none), new.get(&["status"]).unwrap_or(none), old.get(&["status"]).unwrap_or(none));
    let (status, before) = (Field::root("status", new_value), Field::root("status", old_value));
    annotations::update(&mut errors, &annotations_of(new), &annotations_of(old));
    annotations::annotations(&mut errors, &annotations_of(new), &Field::root("spec", spec));
    conditions(&mut errors, &status.child("conditions"));
    node_names(&mut errors, new, old, &status, &before);
    if status.child("observedGeneration").int() < 0 {
        errors.push(status.child("observedGeneration").invalid(NOT_NEGATIVE));
    }
    let class = status.child("qosClass");
    if class.text() != before.child("qosClass").text() {
        errors.push(class.invalid_as(class.text(), IMMUTABLE));
    }
    for (list, containers) in LISTS {
        transitions(&mut errors, &status.child(list), before.child(list).items(), spec, containers);
    }
    claims(&mut errors, &status, spec);
    super::claim_status::extended(&mut errors, &status.child("extendedResourceClaimStatus"), spec);
    super::claim_status::allocatable(&mut errors, &status, spec);
    addresses(&mut errors, &status.child("podIPs"), before.child("podIPs").items());
    host_addresses(&mut errors, &status, before.child("hostIPs").items());
    for (list, containers) in LISTS {
        let statuses = status.child(list);
        users(&mut errors, &statuses, text(spec, &["os", "name"]));
        allocated(&mut errors, &statuses, (containers != "ephemeralContainers").then(|| items(spec, &[containers])));
        images(&mut errors, &statuses);
    }
    errors
}

fn node_names(errors: &mut Vec<FieldError>, new: &Object, old: &Object, status: &Field<'_>, before: &Field<'_>) {
    if new.str(&["spec", "nodeName"]) != old.str(&["spec", "nodeName"]) {
        errors.push(FieldError::forbidden("status.nodeName", "may not be changed directly"));
    }
    let nominated = status.child("nominatedNodeName");
    if nominated.text().is_empty() || nominated.text() == before.child("nominatedNodeName").text() {
        return;
    }
    nominated.judge(errors, names::subdomain(nominated.text(), false));
    if !old.str(&["spec", "nodeName"]).is_empty() {
        errors.push(nominated.forbidden("may not be set on pods that are already bound to a node"));
    }
}

fn conditions(errors: &mut Vec<FieldError>, conditions: &Field<'_>) {
    for condition in conditions.each() {
        if condition.child("observedGeneration").int() < 0 {
            errors.push(condition.child("observedGeneration").invalid(NOT_NEGATIVE));
        }
        let kind = condition.child("type").text();
        if !SYSTEM_CONDITIONS.contains(&kind) {
            condition.child("Type").with(&kind.into()).judge(errors, names::qualified(kind));
        }
    }
}

/// A container that ended for good must not run again.
fn transitions(errors: &mut Vec<FieldError>, now: &Field<'_>, before: &[Value], spec: &Value, list: &str) {
    if list != "ephemeralContainers" && may_restart_all(spec) {
        return;
    }
    let states: BTreeMap<&str, &Value> =
        now.items().iter().rev().map(|status| (text(status, &["name"]), at(status, &["state", "terminated"]))).collect();
    let containers: BTreeMap<&str, &Value> = items(spec, &[list]).iter().map(|container| (text(container, &["name"]), container)).collect();
    for (index, status) in before.iter().enumerate() {
        let (name, ended) = (text(status, &["name"]), at(status, &["state", "terminated"]));
        let runs_again = states.get(name).is_some_and(|state| state.is_null());
        if ended.is_null() || !runs_again {
            continue;
        }
        let may =
            list != "ephemeralContainers" && containers.get(name).is_some_and(|container| may_restart(container, spec, int(ended, &["exitCode"])));
        if !may {
            errors.push(now.index(index).child("state").forbidden("may not be transitioned to non-terminated state"));
        }
    }
}

/// Whether a rule of some container restarts them all.
fn may_restart_all(spec: &Value) -> bool {
    let containers = ["containers", "initContainers"].into_iter().flat_map(|list| items(spec, &[list]));
    containers.flat_map(|container| items(container, &["restartPolicyRules"])).any(|rule| text(rule, &["action"]) == "RestartAllContainers")
}

fn may_restart(container: &Value, spec: &Value, code: i64) -> bool {
    let matches = |rule: &&Value| {
        let listed = items(rule, &["exitCodes", "values"]).iter().any(|value| value.as_i64() == Some(code));
        match text(rule, &["exitCodes", "operator"]) {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    if items(container, &["restartPolicyRules"]).iter().any(|rule| matches(&rule)) {
        return true;
    }
    let policy = match text(container, &["restartPolicy"]) {
        "" => text(spec, &["restartPolicy"]),
        own => own,
    };
    policy == "Always" || policy == "OnFailure" && code != 0
}

fn claims(errors: &mut Vec<FieldError>, status: &Field<'_>, spec: &Value) {
    let known: BTreeSet<&str> = items(spec, &["resourceClaims"]).iter().map(|claim| text(claim, &["name"])).collect();
    let mut seen = BTreeSet::new();
    for claim in status.child("resourceClaimStatuses").each() {
        let (name, claimed) = (claim.child("name"), claim.child("resourceClaimName"));
        if !known.contains(name.text()) {
            errors.push(name.invalid_as(name.text(), "must match the name of an entry in `spec.resourceClaims`"));
        }
        if !seen.insert(name.text().to_owned()) {
            errors.push(name.duplicate());
        }
        if claimed.is_set() {
            claimed.judge(errors, names::subdomain(claimed.text(), false));
        }
    }
}

/// Addresses that are new must be some, one of each family.
fn addresses(errors: &mut Vec<FieldError>, list: &Field<'_>, before: &[Value]) {
    let known: BTreeSet<&str> = before.iter().map(|ip| text(ip, &["ip"])).collect();
    for (address, ip) in list.each().zip(list.items()).filter(|(_, ip)| !known.contains(text(ip, &["ip"]))) {
        address.with(at(ip, &["ip"])).check_ip(errors);
    }
    let families: Vec<bool> = list.items().iter().map(|ip| text(ip, &["ip"]).contains(':')).collect();
    if families.len() > 2 || families.len() == 2 && families[0] == families[1] {
        errors.push(list.invalid("may specify no more than one IP for each IP family"));
    }
}

fn host_addresses(errors: &mut Vec<FieldError>, status: &Field<'_>, before: &[Value]) {
    let list = status.child("hostIPs");
    let Some(first) = list.items().first().map(|ip| text(ip, &["ip"])) else { return };
    if status.child("hostIP").text() != first {
        errors.push(list.index(0).child("ip").invalid_as(first, "must be equal to `hostIP`"));
    }
    addresses(errors, &list, before);
}

fn users(errors: &mut Vec<FieldError>, statuses: &Field<'_>, os: &str) {
    const MOST: i64 = i32::MAX as i64;
    for status in statuses.each() {
        let user = status.child("user");
        let linux = user.child("linux");
        if !linux.is_set() {
            continue;
        }
        if os == "windows" {
            errors.push(linux.forbidden("cannot be set for a windows pod"));
            continue;
        }
        let groups = linux.child("supplementalGroups");
        let ids = [linux.child("uid"), linux.child("gid")].into_iter().chain(groups.each());
        errors.extend(ids.filter(|id| !(0..=MOST).contains(&id.int())).map(|id| id.invalid(between(0, MOST))));
    }
}

/// The health of devices; `containers` is missing where there can be none.
fn allocated(errors: &mut Vec<FieldError>, statuses: &Field<'_>, containers: Option<&[Value]>) {
    for status in statuses.each() {
        let list = status.child("allocatedResourcesStatus");
        if list.items().is_empty() {
            continue;
        }
        let Some(containers) = containers else {
            errors.push(list.forbidden("must not be specified in container status"));
            continue;
        };
        let container = containers.iter().find(|container| text(container, &["name"]) == status.child("name").text());
        for entry in list.each() {
            if let Some(container) = container {
                asked_for(errors, &entry.child("name"), container);
            }
            health(errors, &entry.child("resources"));
        }
    }
}

fn asked_for(errors: &mut Vec<FieldError>, name: &Field<'_>, container: &Value) {
    let (found, detail) = match name.text().strip_prefix("claim:") {
        Some(claim) => {
            let whole = |reference: &Value| match text(reference, &["request"]) {
                "" => text(reference, &["name"]).to_owned(),
                request => format!("{}/{request}", text(reference, &["name"])),
            };
            let found = items(container, &["resources", "claims"]).iter().any(|reference| whole(reference) == claim);
            (
                found,
                "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
            )
        }
        None => (!at(container, &["resources", "requests", name.text()]).is_null(), "must match one of the container's resource requests"),
    };
    if !found {
        errors.push(name.invalid_as(name.text(), detail));
    }
}

fn health(errors: &mut Vec<FieldError>, resources: &Field<'_>) {
    let mut seen = BTreeSet::new();
    for resource in resources.each() {
        let (health, message, id) = (resource.child("health"), resource.child("message"), resource.child("resourceID"));
        if !["Healthy", "Unhealthy", "Unknown"].contains(&health.text()) {
            errors.push(health.with(&health.text().into()).not_supported(&["Healthy", "Unhealthy", "Unknown"]));
        }
        if message.is_set() && message.text().is_empty() {
            errors.push(message.required("must be non-empty if specified"));
        } else if message.text().len() > LONGEST_MESSAGE {
            errors.push(message.too_long(LONGEST_MESSAGE));
        }
        if !seen.insert(id.text().to_owned()) {
            errors.push(id.duplicate_as(id.text()));
        }
    }
}

fn images(errors: &mut Vec<FieldError>, statuses: &Field<'_>) {
    for status in statuses.each() {
        for mount in status.child("volumeMounts").each() {
            let volume = mount.child("volumeStatus");
            let image = volume.child("image");
            if !image.is_set() {
                continue;
            }
            let shown = volume.child("imageVolumeStatus");
            let reference = shown.child("imageRef");
            let reference = reference.with(at(image.value, &["imageRef"]));
            if reference.text().is_empty() {
                errors.push(reference.required("imageRef must not be empty"));
            } else if reference.text().len() > LONGEST_IMAGE {
                errors.push(reference.too_long(LONGEST_IMAGE));
            }
        }
    }
}

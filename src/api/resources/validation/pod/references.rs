//! References to a pod's own fields and resources, in variables and in files of the downward API.

use super::super::{Field, path};
use crate::{
    meta::{names, quantity},
    resources::tree::text,
    status::FieldError,
};

/// Fields that a variable may take.
pub const OF_VARIABLES: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a file may hold.
const OF_FILES: [&str; 5] = ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields that references could ever name, `spec.host` as a name of old for the node.
const KNOWN: [&str; 15] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] =
    ["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];
const DIVISORS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// `metadata.labels['a']` into the map and the key.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

/// An `ObjectFieldSelector`.
pub fn field(errors: &mut Vec<FieldError>, reference: &Field<'_>, allowed: &[&str]) {
    let (version, target) = (reference.child("apiVersion"), reference.child("fieldPath"));
    for part in [&version, &target] {
        if part.text().is_empty() {
            return errors.push(part.required(""));
        }
    }
    let path = target.text();
    let unknown = |why: String| target.invalid(format!("error converting fieldPath: {why}"));
    if version.text() != "v1" {
        return errors.push(unknown(format!("unsupported pod version: {}", version.text())));
    }
    match subscripted(path) {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.extend(names::qualified(&key).into_iter().map(|message| reference.invalid_as(key.as_str(), message)));
        }
        Some(("metadata.labels", key)) => {
            errors.extend(names::qualified(key).into_iter().map(|message| reference.invalid_as(key, message)));
        }
        Some(_) => errors.push(unknown(format!("field label does not support subscript: {path}"))),
        None if !KNOWN.contains(&path) => errors.push(unknown(format!("field label not supported: {path}"))),
        None => {
            let path = if path == "spec.host" { "spec.nodeName" } else { path };
            if !allowed.contains(&path) {
                errors.push(FieldError::not_supported(target, path, allowed));
            }
        }
    }
}

/// A `ResourceFieldSelector`; one in a volume names its container.
pub fn resource(errors: &mut Vec<FieldError>, reference: &Field<'_>, in_volume: bool) {
    let resource = reference.child("resource");
    let name = resource.text();
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
    if in_volume && reference.child("containerName").text().is_empty() {
        errors.push(reference.child("containerName").required(""));
    } else if name.is_empty() {
        errors.push(resource.required(""));
    } else if !huge && !RESOURCES.contains(&name) {
        errors.push(resource.not_supported(&RESOURCES));
    }
    divisor(errors, reference, name, huge);
}

fn divisor(errors: &mut Vec<FieldError>, reference: &Field<'_>, name: &str, huge: bool) {
    let divisor = reference.child("divisor");
    let Some(amount) = quantity::value_nanos(divisor.value).filter(|amount| *amount != 0) else { return };
    let is_one_of = |allowed: &[&str]| allowed.iter().any(|text| quantity::nanos(text) == Some(amount));
    let kind = match name.split_once('.') {
        _ if huge => "hugepages",
        Some((_, "cpu")) => {
            if !is_one_of(&["1m", "1"]) {
                errors.push(divisor.invalid_as(name, "only divisor's values 1m and 1 are supported with the cpu resource"));
            }
            return;
        }
        Some((_, "memory")) => "memory",
        Some((_, "ephemeral-storage")) => "local ephemeral storage",
        _ => return,
    };
    if !is_one_of(&DIVISORS) {
        let detail = format!("only divisor's values {} are supported with the {kind} resource", DIVISORS.join(", "));
        errors.push(divisor.invalid_as(name, detail));
    }
}

/// A file of the downward API. As upstream, errors name the list's owner, not the entry.
pub fn downward_file(errors: &mut Vec<FieldError>, owner: &Field<'_>, file: &Field<'_>) {
    let file = owner.with(file.value);
    file.child("path").check_required(errors);
    path::local(errors, &file.child("path"));
    let (of_field, of_resource) = (file.child("fieldRef"), file.child("resourceFieldRef"));
    match (of_field.is_set(), of_resource.is_set()) {
        (true, both) => {
            field(errors, &of_field, &OF_FILES);
            if both {
                errors.push(owner.invalid_as("resource", "fieldRef and resourceFieldRef can not be specified simultaneously"));
            }
        }
        (false, true) => resource(errors, &of_resource, true),
        (false, false) => errors.push(owner.required("one of fieldRef and resourceFieldRef is required")),
    }
    path::mode(errors, &file.child("mode"));
}

/// A key of a config map or secret.
pub fn key(errors: &mut Vec<FieldError>, reference: &Field<'_>) {
    let (name, key) = (reference.child("name"), reference.child("key"));
    name.judge(errors, names::subdomain(name.text(), false));
    match key.text() {
        "" => errors.push(key.required("")),
        text => key.judge(errors, names::config_key(text)),
    }
}

/// A key of a file with variables in a volume.
pub fn file_key(errors: &mut Vec<FieldError>, reference: &Field<'_>) {
    let (key, volume, file) = (reference.child("key"), reference.child("volumeName"), reference.child("path"));
    match key.text() {
        "" => errors.push(key.required("")),
        text => key.judge(errors, names::env_var(text)),
    }
    volume.check_required_name(errors, names::label);
    match text(reference.value, &["path"]) {
        "" => errors.push(file.required("")),
        _ => path::no_backsteps(errors, &file),
    }
}

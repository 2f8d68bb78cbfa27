//! Volumes in containers: mounts and block devices.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{Field, path},
    Facts,
};
use crate::{
    resources::tree::{at, flag, text},
    status::FieldError,
};

/// Names and paths of a container's mounts or devices.
fn taken<'a>(list: &Field<'a>, path: &str) -> (BTreeSet<&'a str>, BTreeSet<&'a str>) {
    let last: BTreeMap<&str, &str> = list.items().iter().map(|entry| (text(entry, &["name"]), text(entry, &[path]))).collect();
    (last.keys().copied().collect(), last.values().copied().collect())
}

/// Checks `volumeMounts`.
pub fn mounts(errors: &mut Vec<FieldError>, container: &Field<'_>, facts: &Facts<'_>) {
    let (mounts, devices) = (container.child("volumeMounts"), container.child("volumeDevices"));
    let (device_names, device_paths) = taken(&devices, "devicePath");
    let privileged = flag(container.value, &["securityContext", "privileged"]);
    let mut points = BTreeSet::new();
    for mount in mounts.each() {
        let (name, point) = (mount.child("name"), mount.child("mountPath"));
        name.check_required(errors);
        if !facts.volumes.contains_key(name.text()) {
            errors.push(name.with(&text_value(name.value)).not_found(""));
        }
        point.check_required(errors);
        // The field's own documentation says so; runtimes take lists of paths with colons between.
        if point.text().contains(':') && facts.os != "windows" {
            errors.push(point.invalid("must not contain ':'"));
        }
        if !points.insert(point.text().to_owned()) {
            errors.push(point.invalid("must be unique"));
        }
        if device_names.contains(name.text()) {
            errors.push(name.invalid("must not already exist in volumeDevices"));
        }
        if device_paths.contains(point.text()) {
            errors.push(point.invalid("must not already exist as a path in volumeDevices"));
        }
        sub_path(errors, &mounts, &mount);
        propagation(errors, &mounts, &mount, privileged);
    }
}

/// A missing name reads as an empty one.
fn text_value(value: &serde_json::Value) -> serde_json::Value {
    value.as_str().unwrap_or("").into()
}

/// As upstream, these errors name the list, not the entry.
fn sub_path(errors: &mut Vec<FieldError>, mounts: &Field<'_>, mount: &Field<'_>) {
    let (sub, expression) = (mount.child("subPath"), mount.child("subPathExpr"));
    path::descending(errors, &mounts.child("subPath").with(sub.value));
    if !sub.text().is_empty() && !expression.text().is_empty() {
        errors.push(expression.invalid("subPathExpr and subPath are mutually exclusive"));
    }
    path::descending(errors, &mounts.child("subPathExpr").with(expression.value));
}

fn propagation(errors: &mut Vec<FieldError>, mounts: &Field<'_>, mount: &Field<'_>, privileged: bool) {
    let asked = mount.child("mountPropagation");
    let shown = mounts.child("mountPropagation");
    let shown = shown.with(asked.value);
    shown.check_supported(errors, &["Bidirectional", "HostToContainer", "None"]);
    if asked.text() == "Bidirectional" && !privileged {
        errors.push(shown.forbidden("Bidirectional mount propagation is available only to privileged containers"));
    }
    let recursive = mounts.child("recursiveReadOnly");
    let recursive = recursive.with(at(mount.value, &["recursiveReadOnly"]));
    if ["Enabled", "IfPossible"].contains(&recursive.text()) {
        if !mount.child("readOnly").is_true() {
            errors.push(recursive.forbidden("may only be specified when readOnly is true"));
        }
        if asked.is_set() && asked.text() != "None" {
            errors.push(recursive.forbidden("may only be specified when mountPropagation is None or not specified"));
        }
    }
    recursive.check_supported(errors, &["Disabled", "Enabled", "IfPossible"]);
}

/// Checks `volumeDevices`.
pub fn devices(errors: &mut Vec<FieldError>, container: &Field<'_>, facts: &Facts<'_>) {
    let (mounts, devices) = (container.child("volumeMounts"), container.child("volumeDevices"));
    let (mount_names, mount_paths) = taken(&mounts, "mountPath");
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in devices.each() {
        let (name, path) = (device.child("name"), device.child("devicePath"));
        name.check_required(errors);
        if !name.text().is_empty() && !names.insert(name.text().to_owned()) {
            errors.push(name.invalid("must be unique"));
        }
        match facts.volumes.get(name.text()) {
            None => errors.push(name.with(&text_value(name.value)).not_found("")),
            Some(volume) if at(volume, &["persistentVolumeClaim"]).is_null() && at(volume, &["ephemeral"]).is_null() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(name.invalid(detail));
            }
            Some(_) => {}
        }
        path.check_required(errors);
        if paths.contains(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        if path.text().split('/').any(|segment| segment == "..") {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        } else {
            paths.insert(path.text().to_owned());
        }
        if mount_names.contains(name.text()) {
            errors.push(name.invalid("must not already exist in volumeMounts"));
        }
        if mount_paths.contains(path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeMounts"));
        }
    }
}

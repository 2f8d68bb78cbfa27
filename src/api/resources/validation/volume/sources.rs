//! Where a persistent volume comes from: one source of many types.

use serde_json::Value;

use super::super::{
    Field, path,
    pod::{host_path, volume_sources},
};
use crate::{meta::names, resources::tree::at, status::FieldError};

/// In the order in which one wins over another.
const TYPES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];
/// Types that were mounted with options before these had a field.
const WITH_OPTIONS: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
const SECRETS: [&str; 4] = ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
const LONGEST_PORTAL: usize = 64;

/// Whether the annotation for mount options means anything to a volume.
pub fn takes_mount_options(spec: &Field<'_>) -> bool {
    WITH_OPTIONS.iter().any(|kind| spec.child(kind).is_set())
}

/// Checks that there is one source, and that it is good. `name` is the volume's.
pub fn sources(errors: &mut Vec<FieldError>, spec: &Field<'_>, name: &str) {
    let mut count = 0;
    for kind in TYPES {
        let source = spec.child(kind);
        if !source.is_set() {
            continue;
        }
        // As upstream, a flexVolume does not mind others before it, and one error spells its field differently.
        if count > 0 && kind != "flexVolume" {
            let shown = if kind == "cephfs" { "cephFS" } else { kind };
            errors.push(spec.child(shown).forbidden("may not specify more than 1 volume type"));
            continue;
        }
        count += 1;
        check(errors, spec, kind, &source, name);
    }
    if count == 0 {
        errors.push(spec.required("must specify a volume type"));
    }
}

fn check(errors: &mut Vec<FieldError>, spec: &Field<'_>, kind: &str, source: &Field<'_>, name: &str) {
    match kind {
        "hostPath" => host_path(errors, source),
        "iscsi" => iscsi(errors, source, name),
        "csi" => csi(errors, source),
        "local" => {
            let path = source.child("path");
            path.check_required(errors);
            path::no_backsteps(errors, &path);
            if !spec.child("nodeAffinity").is_set() {
                errors.push(spec.child("nodeAffinity").required("Local volume requires node affinity"));
            }
        }
        kind => {
            volume_sources::check(errors, spec, kind, source);
            of_namespaces(errors, kind, source);
        }
    }
}

/// A volume has no namespace, so what it refers to must say its own.
fn of_namespaces(errors: &mut Vec<FieldError>, kind: &str, source: &Field<'_>) {
    let (endpoints, of_secret) = (source.child("endpointsNamespace"), source.child("secretNamespace"));
    let secret = source.child("secretRef");
    match kind {
        "glusterfs" if endpoints.is_set() && endpoints.text().is_empty() => {
            errors.push(endpoints.invalid("if the endpointnamespace is set, it must be a valid namespace name"));
        }
        "glusterfs" => endpoints.check_name(errors, names::label),
        "azureFile" if of_secret.is_set() => of_secret.check_required(errors),
        "cinder" | "storageos" if secret.is_set() => secret.child("namespace").check_required(errors),
        _ => {}
    }
}

fn iscsi(errors: &mut Vec<FieldError>, source: &Field<'_>, volume: &str) {
    let (portal, initiator, secret) = (source.child("targetPortal"), source.child("initiatorName"), source.child("secretRef"));
    portal.check_required(errors);
    if initiator.is_set() && volume.len() + 1 + portal.text().len() > LONGEST_PORTAL {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(source.child("targetportal").invalid_as(portal.text(), detail));
    }
    let iqn = source.child("iqn");
    iqn.check_required(errors);
    if !iqn.text().is_empty() && !volume_sources::is_iscsi_name(iqn.text()) {
        errors.push(iqn.invalid("must be valid format"));
    }
    let lun = source.child("lun");
    lun.check_between(errors, 0, 255);
    if ["chapAuthDiscovery", "chapAuthSession"].iter().any(|name| source.child(name).is_true()) && !secret.is_set() {
        errors.push(secret.required(""));
    }
    if secret.is_set() {
        secret.child("name").check_required(errors);
    }
    if initiator.is_set() && !volume_sources::is_iscsi_name(initiator.text()) {
        errors.push(source.child("initiatorname").invalid_as(initiator.text(), "must be valid format"));
    }
}

fn csi(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    volume_sources::driver_name(errors, &source.child("driver"));
    source.child("volumeHandle").check_required(errors);
    for name in SECRETS {
        let secret = source.child(name);
        if secret.is_set() {
            secret.child("name").check_required_name(errors, names::subdomain);
            secret.child("namespace").check_required_name(errors, names::label);
        }
    }
}

/// All sources of a volume, for comparison with those of an older one: who lacks a secret for expansion may get it.
pub fn of(spec: &Field<'_>, old: &Field<'_>) -> Vec<Value> {
    const EXPANSION: &str = "controllerExpandSecretRef";
    let may_get_secret = old.child("csi").is_set() && at(old.value, &["csi", EXPANSION]).is_null();
    TYPES
        .iter()
        .map(|kind| {
            let mut source = spec.child(kind).value.clone();
            if let Some(fields) = source.as_object_mut().filter(|_| *kind == "csi" && may_get_secret) {
                fields.remove(EXPANSION);
            }
            source
        })
        .collect()
}

//! Volumes that an attachment describes itself: those of pods that were moved to a CSI driver.

use super::super::{Field, pod::volume_sources::driver_name};
use crate::{meta::names, status::FieldError};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const FORBIDDEN: &str = "may not be specified in the context of inline volumes";
/// In the order in which one wins over another, each with the name that its error has.
const OTHER_SOURCES: [(&str, &str); 21] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
];

/// Checks `inlineVolumeSpec`: a volume of a CSI driver, and nothing that only volumes of their own have.
pub fn volume(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    for name in ["claimRef", "capacity"] {
        if spec.child(name).is_set() {
            errors.push(spec.child(name).forbidden(FORBIDDEN));
        }
    }
    let csi = spec.child("csi");
    if !csi.is_set() {
        errors.push(csi.required("has to be specified in the context of inline volumes"));
    }
    access_modes(errors, &spec.child("accessModes"));
    let policy = spec.child("persistentVolumeReclaimPolicy");
    if !["", "Retain"].contains(&policy.text()) {
        errors.push(policy.forbidden("may only be Retain in the context of inline volumes"));
    }
    if spec.child("nodeAffinity").is_set() {
        errors.push(spec.child("nodeAffinity").forbidden(FORBIDDEN));
    }
    source(errors, spec);
    if !spec.child("storageClassName").text().is_empty() {
        errors.push(spec.child("storageClassName").forbidden(FORBIDDEN));
    }
    let mode = spec.child("volumeMode");
    if mode.is_set() && mode.text() != "Filesystem" {
        errors.push(mode.forbidden("may not specify volumeMode other than Filesystem in the context of inline volumes"));
    }
}

fn access_modes(errors: &mut Vec<FieldError>, modes: &Field<'_>) {
    if modes.items().is_empty() {
        errors.push(modes.required(""));
    }
    for mode in modes.each() {
        modes.with(mode.value).check_supported(errors, &MODES);
    }
    let has = |wanted: fn(&str) -> bool| modes.each().any(|mode| wanted(mode.text()));
    if has(|mode| mode == "ReadWriteOncePod") && has(|mode| mode != "ReadWriteOncePod" && MODES.contains(&mode)) {
        errors.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// Of several sources all but the first are too many, and only a first one of CSI is good.
fn source(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let csi = spec.child("csi");
    let mut found = false;
    for (name, shown) in OTHER_SOURCES.iter().chain(&[("csi", "csi")]).filter(|(name, _)| spec.child(name).is_set()) {
        if found && *name != "flexVolume" {
            errors.push(spec.child(shown).forbidden("may not specify more than 1 volume type"));
        } else if *name == "csi" {
            csi_source(errors, &csi);
        }
        found = true;
    }
    if !found {
        errors.push(spec.required("must specify a volume type"));
    }
}

fn csi_source(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    driver_name(errors, &source.child("driver"));
    source.child("volumeHandle").check_required(errors);
    for name in ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"] {
        let secret = source.child(name);
        if secret.is_set() {
            secret.child("name").check_required_name(errors, names::subdomain);
            secret.child("namespace").check_required_name(errors, names::label);
        }
    }
}

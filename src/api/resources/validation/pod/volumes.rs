//! The volumes of a pod.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    super::{Field, labels, metadata, path, volume_claim},
    projected, references, volume_sources,
};
use crate::{
    meta::{names, quantity},
    resources::tree::{at, fields, text},
    status::FieldError,
};

/// All types in the order in which one wins over another.
#[rustfmt::skip]
const TYPES: [&str; 29] = [
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi", "glusterfs", "flocker",
    "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte", "downwardAPI", "fc", "flexVolume", "configMap", "azureFile", "vsphereVolume",
    "photonPersistentDisk", "portworxVolume", "azureDisk", "storageos", "projected", "scaleIO", "csi", "ephemeral",
];
const HOST_PATHS: [&str; 8] = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks volumes and gives the good ones, which containers may use.
pub fn volumes<'a>(errors: &mut Vec<FieldError>, volumes: &Field<'a>, metadata: Option<&Value>) -> BTreeMap<&'a str, &'a Value> {
    let pod = metadata.map(|metadata| text(metadata, &["name"])).filter(|name| !name.is_empty());
    let is_ephemeral = |volume: &&Value| !at(volume, &["ephemeral"]).is_null();
    let created: BTreeSet<String> = match pod {
        Some(pod) => volumes.items().iter().filter(is_ephemeral).map(|volume| format!("{pod}-{}", text(volume, &["name"]))).collect(),
        None => BTreeSet::new(),
    };
    let mut good = BTreeMap::new();
    for (volume, value) in volumes.each().zip(volumes.items()) {
        let before = errors.len();
        source(errors, &volume, pod, metadata.is_some());
        let name = volume.child("name");
        name.check_required_name(errors, names::label);
        if good.contains_key(name.text()) {
            errors.push(name.duplicate());
        }
        if errors.len() == before {
            good.insert(text(value, &["name"]), value);
        }
        let claim = volume.child("persistentVolumeClaim");
        let claim = claim.child("claimName");
        if created.contains(claim.text()) {
            errors.push(claim.invalid("must not reference a PVC that gets created for an ephemeral volume"));
        }
    }
    good
}

fn source(errors: &mut Vec<FieldError>, volume: &Field<'_>, pod: Option<&str>, is_pod: bool) {
    let mut first = true;
    for kind in TYPES.into_iter().chain(["image"]) {
        let source = volume.child(kind);
        if !source.is_set() {
            continue;
        }
        if std::mem::take(&mut first) {
            one(errors, volume, kind, &source, pod, is_pod);
        } else {
            errors.push(source.forbidden("may not specify more than 1 volume type"));
        }
    }
    if first {
        errors.push(volume.required("must specify a volume type"));
    }
}

fn one(errors: &mut Vec<FieldError>, volume: &Field<'_>, kind: &str, source: &Field<'_>, pod: Option<&str>, is_pod: bool) {
    match kind {
        "emptyDir" => {
            let limit = source.child("sizeLimit");
            if quantity::value_nanos(limit.value).is_some_and(|nanos| nanos < 0) {
                errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
            }
        }
        "hostPath" => host_path(errors, source),
        "secret" => {
            source.child("secretName").check_required(errors);
            files(errors, source);
        }
        "configMap" => {
            source.child("name").check_required(errors);
            files(errors, source);
        }
        "persistentVolumeClaim" => source.child("claimName").check_required(errors),
        "downwardAPI" => {
            path::mode(errors, &source.child("defaultMode"));
            for file in source.child("items").each() {
                references::downward_file(errors, source, &file);
            }
        }
        "projected" => projected::projected(errors, source),
        "csi" => csi(errors, source),
        "ephemeral" => ephemeral(errors, volume, source, pod),
        "image" => {
            if is_pod {
                source.child("reference").check_required(errors);
            }
            source.child("pullPolicy").check_one_of(errors, &["Always", "IfNotPresent", "Never"]);
        }
        kind => volume_sources::check(errors, volume, kind, source),
    }
}

/// A path of the machine.
pub fn host_path(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    let path = source.child("path");
    if path.text().is_empty() {
        return errors.push(path.required(""));
    }
    path::no_backsteps(errors, &path);
    source.child("type").check_supported(errors, &HOST_PATHS);
}

fn files(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    path::mode(errors, &source.child("defaultMode"));
    for item in source.child("items").each() {
        key_to_path(errors, &item);
    }
}

/// A key and the file that it becomes.
pub fn key_to_path(errors: &mut Vec<FieldError>, item: &Field<'_>) {
    item.child("key").check_required(errors);
    item.child("path").check_required(errors);
    path::local(errors, &item.child("path"));
    path::mode(errors, &item.child("mode"));
}

fn csi(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    volume_sources::driver_name(errors, &source.child("driver"));
    let secret = source.child("nodePublishSecretRef");
    if secret.is_set() {
        match secret.child("name").text() {
            "" => errors.push(secret.child("name").required("")),
            name => errors.extend(names::subdomain(name, false).into_iter().map(|why| source.child("name").invalid_as(name, why))),
        }
    }
}

/// A claim that is made for the pod: of its metadata only labels and annotations are taken.
fn ephemeral(errors: &mut Vec<FieldError>, owner: &Field<'_>, source: &Field<'_>, pod: Option<&str>) {
    let template = source.child("volumeClaimTemplate");
    if template.is_set() {
        let meta = template.child("metadata");
        metadata::annotations(errors, &meta.child("annotations").to_string(), meta.child("annotations").value);
        labels::labels(errors, &meta.child("labels").to_string(), meta.child("labels").value);
        let is_set = |value: &Value| !value.is_null() && value.as_str() != Some("") && value.as_array().is_none_or(|list| !list.is_empty());
        for (name, _) in fields(meta.value, &[]).into_iter().flatten().filter(|(_, value)| is_set(value)) {
            if !["annotations", "labels"].contains(&name.as_str()) {
                errors.push(meta.child(name).forbidden("cannot be set"));
            }
        }
        volume_claim::claim_template(errors, template.child("spec").value, &template.child("spec").to_string());
    } else {
        errors.push(template.required(""));
    }
    let name = owner.child("name");
    if let Some(pod) = pod.filter(|_| !name.text().is_empty()) {
        let claim = format!("{pod}-{}", name.text());
        name.judge(errors, names::subdomain(&claim, false).into_iter().map(|why| format!("PVC name {claim:?}: {why}")).collect());
    }
}

//! Volume types that need a driver of their own; pods with them are stored, and wait where there is none.

use super::super::{Field, path};
use crate::{meta::names, resources::tree::text, status::FieldError};

const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
const LONGEST_DRIVER: usize = 63;
const LONGEST_TENANT: usize = 64;
const LONGEST_PORTAL: usize = 64;
const CACHING: [&str; 3] = ["None", "ReadOnly", "ReadWrite"];
const DISKS: [&str; 3] = ["Dedicated", "Managed", "Shared"];

/// Checks a source of one of these types.
pub fn check(errors: &mut Vec<FieldError>, volume: &Field<'_>, kind: &str, source: &Field<'_>) {
    let required: &[&str] = match kind {
        "gitRepo" => &["repository"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "nfs" => &["server", "path"],
        "glusterfs" => &["endpoints", "path"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "azureDisk" => &["diskName", "diskURI"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "iscsi" => &["targetPortal"],
        _ => &[],
    };
    for name in required {
        source.child(name).check_required(errors);
    }
    match kind {
        "gitRepo" => path::descending(errors, &source.child("directory")),
        "gcePersistentDisk" => gce(errors, volume, source),
        "awsElasticBlockStore" => partition(errors, &source.child("partition")),
        "nfs" if !source.child("path").text().starts_with('/') => {
            errors.push(source.child("path").invalid_as(source.child("path").text(), "must be an absolute path"));
        }
        "iscsi" => iscsi(errors, volume, source),
        "flocker" => flocker(errors, source),
        "rbd" => monitors(errors, source, &["image"]),
        "cephfs" => monitors(errors, source, &[]),
        "cinder" => secret(errors, source),
        "quobyte" => quobyte(errors, source),
        "fc" => fibre_channel(errors, source),
        "flexVolume" => flex_options(errors, source),
        "azureDisk" => azure_disk(errors, source),
        "storageos" => storage_os(errors, source),
        _ => {}
    }
}

/// Upstream names this one differently in errors.
fn gce(errors: &mut Vec<FieldError>, volume: &Field<'_>, source: &Field<'_>) {
    let shown = volume.child("persistentDisk");
    let shown = shown.with(source.value);
    shown.child("pdName").check_required(errors);
    partition(errors, &shown.child("partition"));
}

fn partition(errors: &mut Vec<FieldError>, partition: &Field<'_>) {
    if !(0..=255).contains(&partition.int()) {
        errors.push(partition.invalid(super::super::between(1, 255)));
    }
}

fn monitors(errors: &mut Vec<FieldError>, source: &Field<'_>, more: &[&str]) {
    if source.child("monitors").items().is_empty() {
        errors.push(source.child("monitors").required(""));
    }
    for name in more {
        source.child(name).check_required(errors);
    }
}

fn secret(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    let secret = source.child("secretRef");
    if secret.is_set() {
        secret.child("name").check_required(errors);
    }
}

fn iscsi(errors: &mut Vec<FieldError>, volume: &Field<'_>, source: &Field<'_>) {
    match source.child("iqn").text() {
        "" => errors.push(source.child("iqn").required("")),
        _ => iscsi_name(errors, &source.child("iqn")),
    }
    source.child("lun").check_between(errors, 0, 255);
    let with_secret = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|name| source.child(name).is_true());
    if with_secret && !source.child("secretRef").is_set() {
        errors.push(source.child("secretRef").required(""));
    }
    let initiator = source.child("initiatorName");
    if !initiator.is_set() {
        return;
    }
    iscsi_name(errors, &source.child("initiatorname").with(initiator.value));
    let (name, portal) = (volume.child("name"), source.child("targetPortal"));
    if name.text().len() + 1 + portal.text().len() > LONGEST_PORTAL {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(name.invalid_as(name.text(), detail));
    }
}

fn iscsi_name(errors: &mut Vec<FieldError>, field: &Field<'_>) {
    let name = field.text();
    if !["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix)) {
        errors.push(field.invalid_as(name, "must be valid format starting with iqn, eui, or naa"));
    } else if !is_iscsi_name(name) {
        errors.push(field.invalid_as(name, "must be valid format"));
    }
}

/// A name in one of the three formats of iSCSI.
pub fn is_iscsi_name(name: &str) -> bool {
    let alphanumeric = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let rest = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.get(1..)).unwrap_or_default();
    match name.get(..3) {
        Some("iqn") => is_qualified_iscsi(name),
        Some("eui") => alphanumeric(rest("eui"), 16),
        Some("naa") => alphanumeric(rest("naa"), 32),
        _ => false,
    }
}

/// The name of a CSI driver.
pub fn driver_name(errors: &mut Vec<FieldError>, driver: &Field<'_>) {
    let name = driver.text();
    if name.is_empty() {
        return errors.push(driver.required(""));
    }
    if name.len() > LONGEST_DRIVER {
        errors.push(driver.too_long(LONGEST_DRIVER));
    }
    driver.judge(errors, names::subdomain(&name.to_lowercase(), false));
}

/// `iqn.2016-04.example.com:target`.
fn is_qualified_iscsi(name: &str) -> bool {
    let Some((authority, target)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once(':')) else { return false };
    let (Some(date), Some(domain)) = (authority.get(..8), authority.get(8..)) else { return false };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let dated = digits(&date[..4]) && date[4..].starts_with('-') && digits(&date[5..7]) && date.ends_with('.');
    let named = !domain.is_empty() && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    dated && named && !target.is_empty() && !target.contains(|c: char| ",;*&$|".contains(c) || c.is_whitespace())
}

fn flocker(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    let (name, uuid) = (source.child("datasetName"), source.child("datasetUUID"));
    match (name.text().is_empty(), uuid.text().is_empty()) {
        (true, true) => errors.push(source.required("one of datasetName and datasetUUID is required")),
        (false, false) => errors.push(source.invalid_as("resource", "datasetName and datasetUUID can not be specified simultaneously")),
        _ => {}
    }
    if name.text().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
}

fn quobyte(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    let (registry, tenant) = (source.child("registry"), source.child("tenant"));
    if registry.text().is_empty() {
        errors.push(registry.required(PAIRS));
    } else if tenant.text().len() > LONGEST_TENANT {
        errors.push(tenant.required("must be a UUID and may not exceed a length of 64 characters"));
    } else {
        let bad = registry.text().split(',').filter(|pair| pair.rsplit_once(':').is_none()).count();
        errors.extend(std::iter::repeat_n(registry.invalid(PAIRS), bad));
    }
    source.child("volume").check_required(errors);
}

fn fibre_channel(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    let (targets, ids, lun) = (source.child("targetWWNs"), source.child("wwids"), source.child("lun"));
    match (targets.items().is_empty(), ids.items().is_empty()) {
        (true, true) => errors.push(targets.required("must specify either targetWWNs or wwids, but not both")),
        (false, false) => errors.push(targets.invalid("targetWWNs and wwids can not be specified simultaneously")),
        _ => {}
    }
    if !targets.items().is_empty() && !lun.is_set() {
        errors.push(lun.required("lun is required if targetWWNs is specified"));
    } else if !targets.items().is_empty() {
        lun.check_between(errors, 0, 255);
    }
}

fn flex_options(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    for (key, option) in source.child("options").entries() {
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace).to_lowercase();
        if ["kubernetes.io", "k8s.io"].iter().any(|own| namespace == *own || namespace.ends_with(&format!(".{own}"))) {
            errors.push(option.invalid_as(key, "kubernetes.io and k8s.io namespaces are reserved"));
        }
    }
}

fn azure_disk(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    source.child("cachingMode").check_supported(errors, &CACHING);
    source.child("kind").check_supported(errors, &DISKS);
    let uri = source.child("diskURI");
    match text(source.value, &["kind"]) {
        "" => {}
        "Managed" if !uri.text().starts_with("/subscriptions/") => {
            errors.push(uri.not_supported(&["/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"]));
        }
        "Managed" => {}
        _ if !uri.text().starts_with("https://") => {
            errors.push(uri.not_supported(&["https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"]));
        }
        _ => {}
    }
}

fn storage_os(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    source.child("volumeName").check_required_name(errors, names::label);
    source.child("volumeNamespace").check_name(errors, names::label);
    secret(errors, source);
}

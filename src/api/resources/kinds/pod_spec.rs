//! Defaults of a pod spec, wherever it stands: in a pod or in a template.

use serde_json::{Value, json};

use crate::resources::{
    divisors::fill_divisors,
    tree::{Fields, child, descend, each, fill, fill_zero},
};

const FILE_MODE: i64 = 0o644;

/// Defaults that pods and pod templates share.
pub fn default_pod_spec(spec: &mut Fields) {
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "restartPolicy", "Always");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    each(spec, "volumes", default_volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, default_container);
    }
    fill_divisors(spec);
}

/// The defaults of the template below `path`, such as `["spec", "template"]`.
pub fn default_template(object: &mut crate::meta::Object, path: &[&str]) {
    if let Some(template) = descend(object.root_mut(), path) {
        fill(template, "metadata", json!({}));
        fill(template, "spec", json!({}));
        if let Some(spec) = child(template, "spec") {
            default_pod_spec(spec);
        }
    }
}

/// `serviceAccount` is the deprecated name of `serviceAccountName`; readers find the same value in both.
pub fn mirror_service_account(spec: &mut Fields) {
    let name = ["serviceAccountName", "serviceAccount"]
        .iter()
        .find_map(|field| spec.get(*field).and_then(Value::as_str).filter(|name| !name.is_empty()))
        .map(str::to_owned);
    if let Some(name) = name {
        spec.insert("serviceAccountName".into(), name.clone().into());
        spec.insert("serviceAccount".into(), name.into());
    }
}

fn default_container(container: &mut Fields) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or("").to_owned();
    fill(container, "imagePullPolicy", pull_policy(&image));
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    each(container, "ports", |port| fill(port, "protocol", "TCP"));
    each(container, "env", |env| {
        if let Some(field) = descend(env, &["valueFrom", "fieldRef"]) {
            fill(field, "apiVersion", "v1");
        }
        if let Some(file) = descend(env, &["valueFrom", "fileKeyRef"]) {
            fill(file, "optional", false);
        }
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = child(container, probe) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = descend(container, &["lifecycle", hook, "httpGet"]) {
            default_http_get(get);
        }
    }
}

fn default_probe(probe: &mut Fields) {
    fill_zero(probe, "timeoutSeconds", 1);
    fill_zero(probe, "periodSeconds", 10);
    fill_zero(probe, "successThreshold", 1);
    fill_zero(probe, "failureThreshold", 3);
    if let Some(get) = child(probe, "httpGet") {
        default_http_get(get);
    }
    if let Some(grpc) = child(probe, "grpc") {
        fill(grpc, "service", "");
    }
}

fn default_http_get(get: &mut Fields) {
    fill(get, "path", "/");
    fill(get, "scheme", "HTTP");
}

fn default_volume(volume: &mut Fields) {
    if !volume.iter().any(|(field, source)| field != "name" && !source.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child(volume, source) {
            fill(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(path) = child(volume, "hostPath") {
        path.entry("type").or_insert_with(|| "".into());
    }
    if let Some(downward) = child(volume, "downwardAPI") {
        each(downward, "items", default_downward_item);
    }
    if let Some(projected) = child(volume, "projected") {
        each(projected, "sources", default_projection);
    }
    if let Some(claim) = descend(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        fill(claim, "volumeMode", "Filesystem");
    }
    if let Some(image) = child(volume, "image") {
        let reference = image.get("reference").and_then(Value::as_str).unwrap_or("").to_owned();
        fill(image, "pullPolicy", pull_policy(&reference));
    }
    default_legacy_volume(volume);
}

/// Sources of the early days, most of them served by CSI drivers now.
fn default_legacy_volume(volume: &mut Fields) {
    if let Some(iscsi) = child(volume, "iscsi") {
        fill(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = child(volume, "rbd") {
        fill(rbd, "pool", "rbd");
        fill(rbd, "user", "admin");
        fill(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = child(volume, "azureDisk") {
        fill(disk, "cachingMode", "ReadWrite");
        fill(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
        fill(disk, "kind", "Shared");
    }
    if let Some(scale_io) = child(volume, "scaleIO") {
        fill(scale_io, "storageMode", "ThinProvisioned");
        fill(scale_io, "fsType", "xfs");
    }
}

fn default_projection(source: &mut Fields) {
    if let Some(downward) = child(source, "downwardAPI") {
        each(downward, "items", default_downward_item);
    }
    if let Some(token) = child(source, "serviceAccountToken") {
        fill(token, "expirationSeconds", 3600);
    }
}

fn default_downward_item(item: &mut Fields) {
    if let Some(field) = child(item, "fieldRef") {
        fill(field, "apiVersion", "v1");
    }
}

/// `Always` for the tag `latest`, also where it is only implied.
fn pull_policy(image: &str) -> &'static str {
    if image.is_empty() || image.contains('@') && !image.split('@').next().unwrap_or("").ends_with(":latest") {
        return "IfNotPresent";
    }
    let repository = image.split('@').next().unwrap_or(image);
    let last = repository.rsplit('/').next().unwrap_or(repository);
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_tag_is_always_pulled() {
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "Always"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }
}

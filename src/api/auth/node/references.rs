//! Which objects a pod or a volume leads to. Pure.

use serde_json::Value;

use crate::meta::{Object, ObjectKey};

/// Kinds of objects that a node may reach through its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    ConfigMap,
    VolumeClaim,
    ResourceClaim,
    ServiceAccount,
}

/// An object that is referred to.
pub type Reference = (Kind, ObjectKey);

/// The annotation of pods that stand for a node's static pods.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Volume sources of pods whose `secretRef` names a secret of the pod's namespace.
const WITH_SECRET_REF: [&str; 7] = ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"];
/// The secrets of a CSI volume that the node reads; the controller's are not its business.
const CSI_NODE_SECRETS: [&str; 3] = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];
/// Volume sources of persistent volumes with a `secretRef`; those that say so may leave its namespace to the claim.
const VOLUMES_WITH_SECRET_REF: [(&str, bool); 7] =
    [("cephfs", true), ("cinder", false), ("flexVolume", true), ("iscsi", true), ("rbd", true), ("scaleIO", true), ("storageos", false)];

/// Everything a pod refers to, each once. A mirror pod leads nowhere: its node wrote it.
pub fn of_pod(pod: &Object) -> Vec<Reference> {
    if pod.annotation(MIRROR).is_some() {
        return Vec::new();
    }
    let mut found = Found { namespace: pod.namespace(), references: Vec::new() };
    found.add(Kind::ServiceAccount, pod.str(&["spec", "serviceAccountName"]));
    secret_names(pod, &mut |name| found.add(Kind::Secret, name));
    config_map_names(pod, &mut |name| found.add(Kind::ConfigMap, name));
    for volume in pod.list(&["spec", "volumes"]) {
        if let Some(claim) = volume.get("persistentVolumeClaim") {
            found.add(Kind::VolumeClaim, text(claim, "claimName"));
        } else if volume.get("ephemeral").is_some() {
            found.add(Kind::VolumeClaim, &format!("{}-{}", pod.name(), text(volume, "name")));
        }
    }
    for claim in pod.list(&["spec", "resourceClaims"]) {
        found.add(Kind::ResourceClaim, resource_claim(pod, claim));
    }
    found.add(Kind::ResourceClaim, pod.str(&["status", "extendedResourceClaimStatus", "resourceClaimName"]));
    found.references.sort_unstable();
    found.references.dedup();
    found.references
}

/// The claim and the secrets that a node mounting this volume reads; `None` while nothing claims the volume.
pub fn of_volume(volume: &Object) -> Option<(ObjectKey, Vec<ObjectKey>)> {
    let claim_namespace = volume.str(&["spec", "claimRef", "namespace"]);
    volume.get(&["spec", "claimRef"]).filter(|claim| !claim.is_null())?;
    let claim = ObjectKey::new(claim_namespace, volume.str(&["spec", "claimRef", "name"]));
    let mut secrets = Vec::new();
    let mut add = |namespace: &str, name: &str| {
        if !name.is_empty() {
            secrets.push(ObjectKey::new(namespace, name));
        }
    };
    if let Some(source) = volume.get(&["spec", "azureFile"]) {
        add(or(text(source, "secretNamespace"), claim_namespace), text(source, "secretName"));
    }
    for (source, lenient) in VOLUMES_WITH_SECRET_REF {
        if let Some(secret) = volume.get(&["spec", source, "secretRef"]) {
            add(or(text(secret, "namespace"), if lenient { claim_namespace } else { "" }), text(secret, "name"));
        }
    }
    for field in CSI_NODE_SECRETS {
        if let Some(secret) = volume.get(&["spec", "csi", field]) {
            add(text(secret, "namespace"), text(secret, "name"));
        }
    }
    Some((claim, secrets))
}

/// Visits the names of all secrets that a pod's spec mentions.
pub fn secret_names(pod: &Object, visit: &mut dyn FnMut(&str)) {
    for secret in pod.list(&["spec", "imagePullSecrets"]) {
        visit(text(secret, "name"));
    }
    environment(pod, "secretRef", "secretKeyRef", visit);
    for volume in pod.list(&["spec", "volumes"]) {
        visit(at(volume, "/secret/secretName"));
        visit(at(volume, "/azureFile/secretName"));
        visit(at(volume, "/csi/nodePublishSecretRef/name"));
        for source in WITH_SECRET_REF {
            visit(volume.get(source).and_then(|source| source.get("secretRef")).map_or("", |secret| text(secret, "name")));
        }
        for source in projected(volume) {
            visit(at(source, "/secret/name"));
        }
    }
}

/// Visits the names of all config maps that a pod's spec mentions.
pub fn config_map_names(pod: &Object, visit: &mut dyn FnMut(&str)) {
    environment(pod, "configMapRef", "configMapKeyRef", visit);
    for volume in pod.list(&["spec", "volumes"]) {
        visit(at(volume, "/configMap/name"));
        for source in projected(volume) {
            visit(at(source, "/configMap/name"));
        }
    }
}

/// The sources of a projected volume.
pub fn projected(volume: &Value) -> &[Value] {
    volume.pointer("/projected/sources").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn environment(pod: &Object, whole: &str, key: &str, visit: &mut dyn FnMut(&str)) {
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for container in pod.list(&["spec", field]) {
            for source in list(container, "envFrom") {
                visit(source.get(whole).map_or("", |source| text(source, "name")));
            }
            for variable in list(container, "env") {
                visit(variable.pointer(&format!("/valueFrom/{key}")).map_or("", |source| text(source, "name")));
            }
        }
    }
}

/// The claim's name: as given, or as the status tells it for claims made from a template.
fn resource_claim<'a>(pod: &'a Object, claim: &'a Value) -> &'a str {
    let given = text(claim, "resourceClaimName");
    if !given.is_empty() {
        return given;
    }
    let statuses = pod.list(&["status", "resourceClaimStatuses"]);
    let made = statuses.iter().find(|status| text(status, "name") == text(claim, "name"));
    made.map_or("", |status| text(status, "resourceClaimName"))
}

struct Found<'a> {
    namespace: &'a str,
    references: Vec<Reference>,
}

impl Found<'_> {
    fn add(&mut self, kind: Kind, name: &str) {
        if !name.is_empty() {
            self.references.push((kind, ObjectKey::new(self.namespace, name)));
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn or<'a>(first: &'a str, second: &'a str) -> &'a str {
    if first.is_empty() { second } else { first }
}

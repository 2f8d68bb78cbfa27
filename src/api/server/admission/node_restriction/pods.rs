//! Pods: a node makes mirrors of its static pods, reports on its pods, and removes or evicts them.

use serde_json::Value;
use troupe_addresses::is_unicast;
use troupe_api::{
    auth::node::references::{self, MIRROR},
    meta::{Object, ObjectKey},
    status::Status,
};

use super::{Attributes, Operation, lookup, on_node, text, verb};

/// Volume sources for which a node asks the API server nothing.
const LOCAL_VOLUMES: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];
/// Volume sources that refer to objects, with what they refer to.
const REFERRING_VOLUMES: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];
const REFERRING_PROJECTIONS: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

pub fn check(request: &Attributes<'_>, node: &str, subresource: &str) -> Result<(), Status> {
    match (subresource, request.operation) {
        ("", Operation::Create) => check_create(request, node),
        ("", Operation::Delete) => {
            let pod = lookup(request, "pods", &request.target.key())?;
            let why = || format!("node {node:?} can only delete pods with spec.nodeName set to itself");
            if on_node(&pod, node) { Ok(()) } else { Err(request.forbidden(why())) }
        }
        ("", operation) => {
            Err(request.forbidden(format!("unexpected operation {:?}, node {node:?} can only create and delete mirror pods", verb(operation))))
        }
        ("status", Operation::Update) => check_status(request, node),
        ("status", operation) => Err(request.forbidden(format!("unexpected operation {:?}", verb(operation)))),
        ("eviction", Operation::Create) => {
            let evicted = request.object().map_or("", |eviction| eviction.name());
            let name = if request.target.name.is_empty() { evicted } else { &request.target.name };
            let pod = lookup(request, "pods", &ObjectKey::new(request.target.namespace.clone(), name))?;
            let why = || format!("node {node} can only evict pods with spec.nodeName set to itself");
            if on_node(&pod, node) { Ok(()) } else { Err(request.forbidden(why())) }
        }
        ("eviction", operation) => Err(request.forbidden(format!("unexpected operation {}", verb(operation)))),
        (other, _) => Err(request.forbidden(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))),
    }
}

fn check_create(request: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let Some(pod) = request.object() else { return Ok(()) };
    if pod.annotation(MIRROR).is_none() {
        return Err(request.forbidden(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods")));
    }
    if pod.str(&["spec", "nodeName"]) != node {
        return Err(request.forbidden(format!("node {node:?} can only create pods with spec.nodeName set to itself")));
    }
    match pod.list(&["metadata", "ownerReferences"]) {
        [owner] => check_owner(request, node, owner)?,
        [] => return Err(request.forbidden(format!("node {node:?} can only create pods with an owner reference set to itself"))),
        _ => return Err(request.forbidden(format!("node {node:?} can only create pods with a single owner reference set to itself"))),
    }
    match api_reference(pod) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(request.forbidden(format!("node {node:?} can not create pods that reference {what}"))),
        Err(why) => Err(request.forbidden(format!("error checking mirror pod for API references: {why}"))),
    }
}

fn check_owner(request: &Attributes<'_>, node: &str, owner: &Value) -> Result<(), Status> {
    if text(owner, "apiVersion") != "v1" || text(owner, "kind") != "Node" || text(owner, "name") != node {
        return Err(request.forbidden(format!("node {node:?} can only create pods with an owner reference set to itself")));
    }
    if owner["controller"] != true {
        return Err(request.forbidden(format!("node {node:?} can only create pods with a controller owner reference set to itself")));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(request.forbidden(format!("node {node:?} must not set blockOwnerDeletion on an owner reference")));
    }
    let known = lookup(request, "nodes", &ObjectKey::cluster(node))?;
    let (given, uid) = (text(owner, "uid"), &known.meta().uid);
    if given == &**uid { Ok(()) } else { Err(request.forbidden(format!("node {node} UID mismatch: expected {given} got {uid}"))) }
}

fn check_status(request: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let (Some(new), Some(old)) = (request.object(), request.old) else { return Ok(()) };
    if old.str(&["spec", "nodeName"]) != node {
        return Err(request.forbidden(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")));
    }
    let labels = |pod: &Object| pod.get(&["metadata", "labels"]).and_then(Value::as_object).cloned().unwrap_or_default();
    if labels(new) != labels(old) {
        return Err(request.forbidden(format!("node {node:?} cannot update labels through pod status")));
    }
    if new.list(&["status", "resourceClaimStatuses"]) != old.list(&["status", "resourceClaimStatuses"]) {
        return Err(request.forbidden(format!("node {node:?} cannot update resource claim statues")));
    }
    let extended = |pod: &Object| pod.get(&["status", "extendedResourceClaimStatus"]).filter(|status| !status.is_null()).cloned();
    if extended(new) != extended(old) {
        return Err(request.forbidden(format!("node {node:?} cannot update extended resource claim status")));
    }
    match special_address(new, old) {
        Some(ip) => Err(request.forbidden(format!("node {node:?} cannot report {ip:?} as the address of a pod"))),
        None => Ok(()),
    }
}

/// A new address of a pod that no pod can have: services, proxies and names would lead others to where it leads.
fn special_address<'a>(new: &'a Object, old: &'a Object) -> Option<&'a str> {
    let known: Vec<&str> = addresses(old).collect();
    addresses(new).find(|text| !known.contains(text) && text.parse().is_ok_and(|ip| !is_unicast(ip)))
}

fn addresses(pod: &Object) -> impl Iterator<Item = &str> {
    let many = ["podIPs", "hostIPs"].into_iter().flat_map(|list| pod.list(&["status", list])).map(|entry| text(entry, "ip"));
    many.chain(["podIP", "hostIP"].map(|field| pod.str(&["status", field]))).filter(|ip| !ip.is_empty())
}

/// The kind of API objects that a pod refers to, if any; an error for volumes that nobody knows.
fn api_reference(pod: &Object) -> Result<Option<&'static str>, String> {
    if !pod.str(&["spec", "serviceAccountName"]).is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    let (mut secrets, mut maps) = (false, false);
    references::secret_names(pod, &mut |name| secrets |= !name.is_empty());
    references::config_map_names(pod, &mut |name| maps |= !name.is_empty());
    if secrets {
        return Ok(Some("secrets"));
    }
    if maps {
        return Ok(Some("configmaps"));
    }
    if !pod.list(&["spec", "resourceClaims"]).is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in pod.list(&["spec", "volumes"]) {
        if let Some(what) = volume_reference(volume)? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

fn volume_reference(volume: &Value) -> Result<Option<&'static str>, String> {
    let has = |value: &Value, field: &str| value.get(field).is_some_and(|source| !source.is_null());
    if LOCAL_VOLUMES.iter().any(|source| has(volume, source)) {
        return Ok(None);
    }
    if let Some((_, what)) = REFERRING_VOLUMES.iter().find(|(source, _)| has(volume, source)) {
        return Ok(Some(what));
    }
    if !has(volume, "projected") {
        return Err(format!("unknown volume type for volume  {:?}", text(volume, "name")));
    }
    for source in references::projected(volume) {
        if let Some((_, what)) = REFERRING_PROJECTIONS.iter().find(|(field, _)| has(source, field)) {
            return Ok(Some(what));
        }
        if !has(source, "downwardAPI") {
            return Err(format!("unknown source for projected volume {:?}", text(volume, "name")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Object {
        Object::from_value(json!({"metadata": {"name": "p"}, "status": status})).expect("an object")
    }

    #[test]
    fn a_node_cannot_report_an_address_that_no_pod_has() {
        let old = pod(json!({}));
        for ip in ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"] {
            for status in [json!({"podIP": ip}), json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": ip}]}), json!({"hostIP": ip})] {
                assert_eq!(special_address(&pod(status.clone()), &old), Some(ip), "{status}");
                assert_eq!(special_address(&pod(status.clone()), &pod(status.clone())), None, "what stands there may stay");
            }
        }
        assert_eq!(special_address(&pod(json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]})), &old), None);
    }
}

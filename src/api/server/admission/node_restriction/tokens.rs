//! Tokens: a node asks for those of its pods' service accounts, bound to the pod, for audiences that the pod names.

use serde_json::Value;
use troupe_api::{
    auth::{self, Decision, node::references},
    meta::{GroupResource, Object, ObjectKey},
    status::Status,
};

use super::{Attributes, lookup, text};

pub fn check(request: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let Some(asked) = request.object() else { return Ok(()) };
    let bound = |field: &str| asked.str(&["spec", "boundObjectRef", field]);
    if bound("apiVersion") != "v1" || bound("kind") != "Pod" || bound("name").is_empty() {
        return Err(request.forbidden("node requested token not bound to a pod"));
    }
    if bound("uid").is_empty() {
        return Err(request.forbidden("node requested token with a pod binding without a uid"));
    }
    let pod = lookup(request, "pods", &ObjectKey::new(request.target.namespace.clone(), bound("name")))?;
    if bound("uid") != &*pod.meta().uid {
        let uid = bound("uid");
        return Err(request.forbidden(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        )));
    }
    let pod = pod.to_object();
    if pod.str(&["spec", "nodeName"]) != node {
        return Err(request.forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    check_audience(request, asked, &pod)
}

fn check_audience(request: &Attributes<'_>, asked: &Object, pod: &Object) -> Result<(), Status> {
    let audience = match asked.list(&["spec", "audiences"]) {
        [] => "",
        [audience] => audience.as_str().unwrap_or_default(),
        _ => return Err(request.forbidden("node may only request 0 or 1 audiences")),
    };
    if pod.list(&["spec", "volumes"]).iter().any(|volume| names_audience(request, pod, volume, audience)) {
        return Ok(());
    }
    let attributes = auth::Attributes {
        verb: "request-serviceaccounts-token-audience",
        version: "v1",
        resource: audience,
        namespace: &request.target.namespace,
        name: &request.target.name,
        ..auth::Attributes::default()
    };
    let allowed = request.reads.authorizer().is_none_or(|authorizer| authorizer.authorize(request.user, &attributes) == Decision::Allow);
    if allowed {
        return Ok(());
    }
    let user = &request.user.name;
    Err(request
        .forbidden(format!("audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience")))
}

/// Whether the volume, or the CSI driver behind it, wants tokens for the audience.
fn names_audience(request: &Attributes<'_>, pod: &Object, volume: &Value, audience: &str) -> bool {
    let wants = |source: &Value| source.get("serviceAccountToken").is_some_and(|token| text(token, "audience") == audience);
    if references::projected(volume).iter().any(wants) {
        return true;
    }
    let driver = driver_of(request, pod, volume).unwrap_or_default();
    if driver.is_empty() {
        return false;
    }
    let drivers = GroupResource::new("storage.k8s.io", "csidrivers");
    let Some(driver) = request.reads.listers().get(&drivers, &ObjectKey::cluster(driver)) else { return false };
    driver.to_object().list(&["spec", "tokenRequests"]).iter().any(|token| text(token, "audience") == audience)
}

fn driver_of(request: &Attributes<'_>, pod: &Object, volume: &Value) -> Option<String> {
    if let Some(csi) = volume.get("csi") {
        return Some(text(csi, "driver").to_owned());
    }
    let claim = match volume.get("persistentVolumeClaim") {
        Some(claim) => text(claim, "claimName").to_owned(),
        None => volume.get("ephemeral").map(|_| format!("{}-{}", pod.name(), text(volume, "name")))?,
    };
    let claim = lookup(request, "persistentvolumeclaims", &ObjectKey::new(pod.namespace(), claim)).ok()?.to_object();
    let volume = lookup(request, "persistentvolumes", &ObjectKey::cluster(claim.str(&["spec", "volumeName"]))).ok()?.to_object();
    Some(volume.str(&["spec", "csi", "driver"]).to_owned())
}

//! What is written about the pods of a node, and said of nodes.

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};
use troupe_api::{projection::MetaProjection, service::PatchType};

use super::departures::Bearing;
use crate::{
    controllers::writes::delete_with_uid,
    pod_conditions,
    runtime::controller::{ReconcileContext, ReconcileError},
};

/// Says something of a node, which may be gone.
pub fn tell_of_node(name: &str, uid: &str, reason: &str, what: String, cx: &ReconcileContext) {
    let node = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    cx.events().normal(&node, reason, format!("Node {name} event: {what}"));
}

/// A pod in events, which may be gone.
pub fn reference_of(bearing: &Bearing) -> ObjectReference {
    let MetaProjection { namespace, name, uid, .. } = &*bearing.meta;
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(name.to_string()),
        namespace: Some(namespace.to_string()),
        uid: Some(uid.to_string()),
        ..ObjectReference::default()
    }
}

/// Deletes a pod, and says why.
pub async fn delete(pod: &Pod, cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByTaintManager".to_owned()),
        message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
        last_transition_time: Some(Time(cx.now())),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    };
    if let Some(change) = pod_conditions::change(pod, condition) {
        patch_status(pod, change, cx).await?;
    }
    let (namespace, name) = names(pod);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    Ok(delete_with_uid(&cx.client().namespaced::<Pod>(namespace), name, uid).await?)
}

fn names(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

/// Patches the status of a pod, if that is still there. A conflict is an error: it may come of another pod of that name, which
/// the cache will show, as well as of others' writes.
pub async fn patch_status(pod: &Pod, status: Value, cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let (namespace, name) = names(pod);
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    match cx.client().namespaced::<Pod>(namespace).patch(name, "status", PatchType::StrategicMerge, &patch).await {
        Err(status) if !status.is_not_found() => Err(status.into()),
        _ => Ok(()),
    }
}

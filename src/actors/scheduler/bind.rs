//! Effects: binding a pod to its node, and telling why it has none.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};
use troupe_api::{meta::Object, service::PatchType, status::Status};
use troupe_api_client::Client;

use super::{
    framework::Nomination,
    placed_pod::{PlacedPod, nominated_node},
};
use crate::pod_conditions;

/// Posts the binding.
pub async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), Status> {
    let (name, namespace) = (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.namespace.clone().unwrap_or_default());
    let body = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let body = Object::from_value(body).expect("built as an object");
    client.namespaced::<Pod>(namespace.as_str()).create_subresource(&name, "binding", body).await.map(drop)
}

/// Why a pod is not scheduled, as its condition says: it fits nowhere, or something went wrong.
pub const UNSCHEDULABLE: &str = "Unschedulable";
pub const SCHEDULER_ERROR: &str = "SchedulerError";

/// Writes the PodScheduled condition of a pod without a node, and the node that others are removed from for it, unless it says so
/// already.
pub async fn mark_unscheduled(
    client: &Client,
    pod: &Arc<Pod>,
    (reason, message): (&str, &str),
    nomination: &Nomination,
    now: &str,
) -> Result<(), Status> {
    let known = scheduled_condition(pod);
    let nominated = match nomination {
        Nomination::Set(node) if nominated_node(pod) != Some(node) => Some(json!(&**node)),
        Nomination::Clear if nominated_node(pod).is_some() => Some(Value::Null),
        _ => None,
    };
    if is_told(pod, reason, message) && nominated.is_none() {
        return Ok(());
    }
    let since = known.filter(|condition| condition.status == "False").and_then(|condition| condition.last_transition_time.as_ref());
    let since = since.map_or_else(|| json!(now), |time| json!(time));
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "observedGeneration": pod.metadata.generation, "lastProbeTime": null, "lastTransitionTime": since,
    });
    let mut status = pod_conditions::setting(pod, &condition);
    if let Some(node) = nominated {
        status["nominatedNodeName"] = node;
    }
    patch_status(client, &PlacedPod::of(pod), status).await
}

fn scheduled_condition(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|condition| condition.type_ == "PodScheduled")
}

/// Whether the pod's condition says already why it has no node.
pub fn is_told(pod: &Pod, reason: &str, message: &str) -> bool {
    scheduled_condition(pod).is_some_and(|condition| {
        let (status, known) = (condition.status.as_str(), condition.reason.as_deref());
        (status, known) == ("False", Some(reason)) && condition.message.as_deref() == Some(message)
    })
}

/// Says where a pod is going to be bound (KEP-5278), for whoever adds or removes nodes meanwhile, unless it says so already.
pub async fn nominate(client: &Client, pod: &Pod, node: &str) -> Result<(), Status> {
    if nominated_node(pod) == Some(node) {
        return Ok(());
    }
    patch_status(client, &PlacedPod::of(pod), json!({"nominatedNodeName": node})).await
}

/// The pod as it is once that is written.
pub fn with_nomination(pod: &Pod, node: &str) -> Arc<Pod> {
    let mut pod = pod.clone();
    pod.status.get_or_insert_default().nominated_node_name = Some(node.to_owned());
    Arc::new(pod)
}

/// Takes back that a node is kept free for a pod.
pub async fn clear_nomination(client: &Client, pod: &PlacedPod) -> Result<(), Status> {
    patch_status(client, pod, json!({"nominatedNodeName": null})).await
}

async fn patch_status(client: &Client, pod: &PlacedPod, status: Value) -> Result<(), Status> {
    let patch = json!({"metadata": {"uid": &*pod.uid}, "status": status});
    let pods = client.namespaced::<Pod>(pod.key().namespace.clone());
    pods.patch(&pod.key().name, "status", PatchType::StrategicMerge, &patch).await.map(drop)
}

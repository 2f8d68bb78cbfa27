//! Effects: binding a pod to its node, and telling why it has none.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use troupe_api::{client::Client, meta::Object, service::PatchType, status::Status};

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

/// Writes the PodScheduled condition of a pod that fits nowhere, unless it says so already.
pub async fn mark_unschedulable(client: &Client, pod: &Arc<Pod>, message: &str, now: &str) -> Result<(), Status> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let known = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled");
    if known.is_some_and(|condition| condition.status == "False" && condition.message.as_deref() == Some(message)) {
        return Ok(());
    }
    let since = known.filter(|condition| condition.status == "False").and_then(|condition| condition.last_transition_time.as_ref());
    let since = since.map_or_else(|| json!(now), |time| json!(time));
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "observedGeneration": pod.metadata.generation, "lastProbeTime": null, "lastTransitionTime": since,
    });
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
    let (name, namespace) = (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.namespace.clone().unwrap_or_default());
    client.namespaced::<Pod>(namespace).patch(&name, "status", PatchType::StrategicMerge, &patch).await.map(drop)
}

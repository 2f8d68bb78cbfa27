//! What others write over what the kubelet said of a pod.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use troupe_api::service::PatchType;

use super::forgotten::{create, kubelet, until};
use crate::apiserver::testing::boot;

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// As the node controller does while a node is silent: the pod may run all the time.
#[actix::test]
async fn a_pod_that_others_called_unready_is_called_ready_again() {
    let (api, place) = (boot().await, tempfile::tempdir().expect("a directory"));
    let (_kubelet, _system, _runtime) = kubelet(&api, place.path()).await;
    create(&api, "web", "Always").await;
    until(&api, "web", "ready", is_ready).await;
    for _ in 0..2 {
        let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]}});
        let written = api.patch(api.subresource("pods", "default", "web", "status"), PatchType::StrategicMerge, unready).await.expect("is written");
        assert_eq!(written.list(&["status", "conditions"]).iter().find(|one| one["type"] == "Ready").expect("is there")["status"], "False");
        until(&api, "web", "ready again", is_ready).await;
    }
}

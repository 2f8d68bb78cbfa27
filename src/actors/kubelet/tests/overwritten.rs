//! What others write over what the kubelet said of a pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use troupe_api::service::PatchType;

use super::{
    forgotten::{create, kubelet, until},
    stage::{PATIENCE, Stage},
};
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

#[actix::test]
async fn labels_that_say_what_the_machine_is_come_back() {
    let stage = Stage::new().await;
    let (_kubelet, _system) = stage.kubelet(|options| options.node_status.update = Duration::from_millis(50)).await;
    let nodes = stage.api.client.all::<Node>();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut is_changed = false;
    loop {
        let node = nodes.get_opt("n1").await.expect("the API answers");
        let labels = node.as_ref().and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
        match labels.get("kubernetes.io/os").map(String::as_str) {
            Some("linux") if is_changed => return,
            Some("linux") => {
                let odd = json!({"metadata": {"labels": {"kubernetes.io/os": "odd"}}});
                nodes.patch("n1", "", PatchType::Merge, &odd).await.expect("is written");
                is_changed = true;
            }
            _ => {}
        }
        assert!(tokio::time::Instant::now() < deadline, "{labels:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! Pods whose links to the node cannot be set up at once, with a kubelet on the fake runtime.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use troupe_net::cni::links::FakePodLinks;

use super::stage::Stage;

fn runs(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

#[actix::test]
async fn a_sandbox_whose_link_is_not_set_up_is_given_up_for_another() {
    let stage = Stage::new().await;
    let links = Arc::new(FakePodLinks::default());
    links.fail_next(1);
    let given = links.clone();
    let _kubelet = stage.kubelet(move |options| options.links = given).await;
    stage.create("web", json!({"containers": [{"name": "c", "image": "web", "imagePullPolicy": "Never"}]})).await;
    stage.until("web", "running", runs).await;
    let calls = stage.runtime.calls();
    let at = |verb: &str| calls.iter().enumerate().filter(|(_, call)| call.starts_with(verb)).map(|(at, _)| at).collect::<Vec<_>>();
    let (made, stopped, containers) = (at("run_pod_sandbox"), at("stop_pod_sandbox"), at("create_container"));
    assert_eq!((made.len(), containers.len()), (2, 1), "{calls:?}");
    assert!(stopped.first().is_some_and(|stopped| *stopped < made[1]) && made[1] < containers[0], "{calls:?}");
    assert!(!links.connected().is_empty(), "the container is in one that has its link");
}

//! Pods whose links to the node cannot be set up at once, with a kubelet on the fake runtime.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::json;
use troupe_api::service::ListOptions;
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

#[actix::test]
async fn limits_of_traffic_that_nothing_sets_are_told_of() {
    let stage = Stage::new().await;
    let links = Arc::new(FakePodLinks::without("bandwidth"));
    let _kubelet = stage.kubelet(move |options| options.links = links).await;
    let container = json!({"name": "c", "image": "web", "imagePullPolicy": "Never"});
    stage.create("free", json!({"containers": [container]})).await;
    let metadata = json!({"name": "limited", "namespace": "default", "annotations": {"kubernetes.io/egress-bandwidth": "1M"}});
    let spec = json!({"nodeName": "n1", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0, "containers": [container]});
    stage.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await;
    for name in ["free", "limited"] {
        stage.until(name, "running", runs).await;
    }
    let told = async {
        loop {
            let events = stage.api.client.namespaced::<Event>("default").list(ListOptions::default()).await.expect("events").items;
            let told: Vec<_> = events.into_iter().filter(|event| event.reason.as_deref() == Some("BandwidthUnlimited")).collect();
            if !told.is_empty() {
                break told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(60), told).await.expect("an event");
    let about: Vec<_> = told.iter().map(|event| event.involved_object.name.as_deref().unwrap_or_default()).collect();
    assert_eq!(about, ["limited"]);
    let message = "kubernetes.io/egress-bandwidth has no effect: this node lacks the CNI plugin bandwidth";
    assert_eq!(told[0].message.as_deref(), Some(message));
}

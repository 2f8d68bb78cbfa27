use std::time::Duration;

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use serde_json::json;
use troupe_api::{meta::ObjectKey, service::DeleteOptions};

use super::*;
use crate::{
    apiserver::testing::boot,
    controllers::pods::is_ready,
    runtime::cache::{Cache, Caches},
};

async fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn only_own_nodes_count() {
    let options = HollowOptions { name: "h".into(), count: 11, heartbeat: Duration::ZERO, version: String::new() };
    assert!(options.has("h-0") && options.has("h-10"));
    assert!(!options.has("h-11") && !options.has("h-01") && !options.has("h") && !options.has("other-1"));
}

#[actix::test]
async fn they_register_renew_and_run_pods_without_containers() {
    let api = boot().await;
    api.ensure(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-node-lease"}})).await;
    let system = api.server.system();
    let caches = Caches::new(system.clone(), api.client.clone());
    let options = HollowOptions { name: "h".into(), count: 3, heartbeat: Duration::from_millis(50), version: "v0".into() };
    let hollow = Hollow::start(options, &api.client, &caches, system);
    tokio::time::timeout(Duration::from_secs(60), hollow.registered()).await.expect("they register");
    let nodes: Cache<Node> = caches.cache();
    eventually("three nodes", || nodes.keys().len() == 3).await;
    let renewed = async || {
        let lease = api.client.namespaced::<Lease>("kube-node-lease").get("h-2").await.expect("a lease");
        lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref().map(|time| time.0))
    };
    let before = renewed().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while renewed().await == before {
        assert!(tokio::time::Instant::now() < deadline, "the lease is not renewed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let pod = |name: &str, node: &str| {
        let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}]});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    api.create(pod("here", "h-1")).await;
    api.create(pod("elsewhere", "other")).await;
    let pods: Cache<Pod> = caches.cache();
    let key = ObjectKey::new("default", "here");
    eventually("the pod is ready", || pods.get(&key).is_some_and(|pod| is_ready(&pod.object))).await;
    assert!(!pods.get(&ObjectKey::new("default", "elsewhere")).is_some_and(|pod| is_ready(&pod.object)));
    api.delete("pods", "default", "here", DeleteOptions::default()).await.expect("is taken");
    eventually("the pod is gone", || pods.get(&key).is_none()).await;
}

//! Pods that are resized in place, with a kubelet on the fake runtime.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use serde_json::{Value, json};
use troupe_api::{
    service::{DeleteOptions, ListOptions, PatchType},
    status::Status,
};
use troupe_cri::CriError;

use super::stage::{PATIENCE, Stage};

impl Stage {
    async fn resize(&self, name: &str, resources: Value) -> Result<Arc<Pod>, Status> {
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        self.api.client.namespaced::<Pod>("default").patch(name, "resize", PatchType::StrategicMerge, &patch).await
    }

    async fn event(&self, reason: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let events = self.api.client.namespaced::<Event>("default").list(ListOptions::default()).await.expect("events").items;
            if let Some(event) = events.iter().find(|event| event.reason.as_deref() == Some(reason)) {
                return event.message.clone().unwrap_or_default();
            }
            assert!(tokio::time::Instant::now() < deadline, "no event {reason}: {events:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The CPUs that the node has for pods.
    async fn cpus(&self) -> i64 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let node = self.api.client.all::<Node>().get_opt("n1").await.expect("the API answers");
            let allocatable = node.and_then(|node| node.status.as_ref()?.allocatable.clone());
            if let Some(cpus) = allocatable.and_then(|list| list.get("cpu").map(|cpus| troupe_cri::quantity::value(&cpus.0))) {
                return cpus;
            }
            assert!(tokio::time::Instant::now() < deadline, "the node does not register");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn updates(&self) -> Vec<String> {
        let update = |call: String| call.strip_prefix("update_container_resources ").map(str::to_owned);
        self.runtime.calls().into_iter().filter_map(update).collect()
    }
}

fn container(resources: &Value, memory_policy: &str) -> Value {
    let policies = json!([{"resourceName": "memory", "restartPolicy": memory_policy}]);
    let container = json!({"name": "c", "image": "web", "imagePullPolicy": "Never", "resources": resources, "resizePolicy": policies});
    json!({"restartPolicy": "OnFailure", "containers": [container]})
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Ready, of the newest generation, and without anything of a resize.
fn is_settled(pod: &Pod) -> bool {
    let observed = pod.status.as_ref().and_then(|status| status.observed_generation);
    is_ready(pod)
        && observed == pod.metadata.generation
        && condition(pod, "PodResizePending").is_none()
        && condition(pod, "PodResizeInProgress").is_none()
}

/// What a pod's container is told to have of a resource, and how often it started again.
fn has(pod: &Pod, name: &str) -> (String, String, i32) {
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first()).expect("a container");
    let allocated = status.allocated_resources.as_ref().and_then(|list| list.get(name)).map(|amount| amount.0.clone());
    let actual = status.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(name)).map(|amount| amount.0.clone());
    (allocated.unwrap_or_default(), actual.unwrap_or_default(), status.restart_count)
}

fn sized(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

#[actix::test]
async fn a_running_pod_gets_another_size_without_a_restart() {
    let stage = Stage::new().await;
    let _kubelet = stage.kubelet(|_| {}).await;
    stage.cpus().await;
    stage.create("web", container(&sized("100m", "64Mi"), "NotRequired")).await;
    stage.until("web", "ready", is_settled).await;
    stage.runtime.use_memory("c", 16 << 20);
    let asked = stage.resize("web", sized("200m", "32Mi")).await.expect("is taken");
    assert_eq!(asked.metadata.generation, Some(2));
    let pod = stage.until("web", "resized", |pod| is_settled(pod) && has(pod, "cpu").0 == "200m").await;
    assert_eq!(has(&pod, "cpu"), ("200m".into(), "200m".into(), 0));
    assert_eq!(has(&pod, "memory"), ("32Mi".into(), "32Mi".into(), 0));
    assert_eq!(stage.updates(), ["c 10000 33554432", "c 20000 33554432"], "memory first, then CPU");
    let told: Vec<String> = stage.runtime.calls().into_iter().filter(|call| call.starts_with("update_pod_sandbox_resources ")).collect();
    let of_pod = |cpu: u32, memory: u32| format!("update_pod_sandbox_resources web {cpu} {memory} + 0 0");
    assert_eq!(told, [of_pod(10_000, 33_554_432), of_pod(20_000, 33_554_432), of_pod(20_000, 33_554_432)], "quota, then shares");
    assert!(stage.event("ResizeStarted").await.starts_with("Pod resize started: {\"containers\":[{\"name\":\"c\""));
    assert!(stage.event("ResizeCompleted").await.ends_with("\"generation\":2}"));
}

#[actix::test]
async fn a_runtime_that_refuses_the_pods_size_has_it_tried_again() {
    let stage = Stage::new().await;
    let _kubelet = stage.kubelet(|_| {}).await;
    stage.cpus().await;
    stage.create("web", container(&sized("100m", "64Mi"), "NotRequired")).await;
    stage.until("web", "ready", is_settled).await;
    stage.runtime.fail_next("update_pod_sandbox_resources", CriError::Failed { code: "Internal", message: "no room".into() });
    stage.resize("web", sized("100m", "96Mi")).await.expect("is taken");
    let why = "failed to notify runtime for UpdatePodSandboxResources: rpc error: code = Internal desc = no room";
    let failed = |pod: &Pod| condition(pod, "PodResizeInProgress").is_some_and(|condition| condition.message.as_deref() == Some(why));
    stage.until("web", "refused", failed).await;
    stage.until("web", "resized", |pod| is_settled(pod) && has(pod, "memory").1 == "96Mi").await;
    assert_eq!(stage.updates(), ["c 10000 100663296"]);
    stage.runtime.use_memory("c", 16 << 20);
    stage.runtime.fail_next("update_pod_sandbox_resources", CriError::Unimplemented("unknown method".into()));
    stage.resize("web", sized("100m", "80Mi")).await.expect("is taken");
    stage.until("web", "resized", |pod| is_settled(pod) && has(pod, "memory").1 == "80Mi").await;
}

#[actix::test]
async fn a_container_whose_policy_says_so_starts_again_with_its_new_size() {
    let stage = Stage::new().await;
    let _kubelet = stage.kubelet(|_| {}).await;
    stage.cpus().await;
    stage.create("web", container(&sized("100m", "64Mi"), "RestartContainer")).await;
    stage.until("web", "ready", is_settled).await;
    stage.resize("web", sized("100m", "96Mi")).await.expect("is taken");
    let pod = stage.until("web", "started again", |pod| is_settled(pod) && has(pod, "memory").2 == 1).await;
    assert_eq!(has(&pod, "memory"), ("96Mi".into(), "96Mi".into(), 1));
    assert_eq!(stage.updates(), [""; 0]);
    let made = stage.runtime.container_named("c").and_then(|made| made.config.linux?.resources).expect("resources");
    assert_eq!(made.memory_limit_in_bytes, 96 << 20);
    assert_eq!(stage.event("Killing").await, "Container c resize requires restart");
}

#[actix::test]
async fn a_limit_below_what_is_in_use_is_not_set_until_there_is_room() {
    let stage = Stage::new().await;
    let _kubelet = stage.kubelet(|_| {}).await;
    stage.cpus().await;
    stage.create("web", container(&sized("100m", "64Mi"), "NotRequired")).await;
    stage.until("web", "ready", is_settled).await;
    stage.runtime.use_memory("c", 50 << 20);
    stage.resize("web", sized("100m", "32Mi")).await.expect("is taken");
    let failed = |pod: &Pod| condition(pod, "PodResizeInProgress").is_some_and(|condition| condition.reason.as_deref() == Some("Error"));
    let pod = stage.until("web", "failing", failed).await;
    let message = condition(&pod, "PodResizeInProgress").and_then(|condition| condition.message.clone());
    let why = "cannot decrease memory limits: attempting to set container \"c\" memory limit (33554432) below current usage (52428800)";
    assert_eq!((message.as_deref(), has(&pod, "memory")), (Some(why), ("32Mi".into(), "64Mi".into(), 0)));
    assert!(stage.event("ResizeError").await.starts_with("Pod resize error: {"));
    stage.runtime.use_memory("c", 16 << 20);
    stage.until("web", "resized", |pod| is_settled(pod) && has(pod, "memory").1 == "32Mi").await;
}

#[actix::test]
async fn a_size_that_others_have_waits_for_them_over_restarts_of_the_kubelet() {
    let stage = Stage::new().await;
    let (kubelet, system) = stage.kubelet(|_| {}).await;
    let cpus = stage.cpus().await;
    let asking = |cpu: &str| json!({"requests": {"cpu": cpu}});
    for name in ["web", "other"] {
        stage.create(name, container(&asking(&format!("{}m", cpus * 400)), "NotRequired")).await;
        stage.until(name, "ready", is_settled).await;
    }
    let large = format!("{}m", cpus * 800);
    let beyond = stage.resize("web", asking(&format!("{}", cpus + 1))).await.expect_err("no node like this one has that");
    assert!(beyond.message.contains("node didn't have enough allocatable resources: cpu, requested: "), "{}", beyond.message);
    stage.resize("web", asking(&large)).await.expect("is taken");
    let deferred = |pod: &Pod| condition(pod, "PodResizePending").is_some_and(|condition| condition.reason.as_deref() == Some("Deferred"));
    let pod = stage.until("web", "deferred", deferred).await;
    let told = condition(&pod, "PodResizePending").expect("a condition");
    let why = format!("Node didn't have enough resource: cpu, requested: {}, used: {}, capacity: {}", cpus * 800, cpus * 400, cpus * 1000);
    assert_eq!((told.message.as_deref(), told.observed_generation), (Some(why.as_str()), Some(2)));
    assert_eq!(pod.status.as_ref().and_then(|status| status.observed_generation), Some(2));
    assert_eq!(has(&pod, "cpu").0, format!("{}m", cpus * 400));
    assert!(stage.event("ResizeDeferred").await.starts_with("Pod resize Deferred: {"));

    drop(kubelet);
    system.shutdown(Duration::from_secs(5)).await;
    let _kubelet = stage.kubelet(|_| {}).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let pod = stage.until("web", "still deferred", deferred).await;
    assert_eq!((has(&pod, "cpu").0, stage.updates()), (format!("{}m", cpus * 400), Vec::new()), "what was promised is known after a restart");

    let options = DeleteOptions::default();
    stage.api.client.namespaced::<Pod>("default").delete("other", options).await.expect("is deleted");
    let pod = stage.until("web", "resized", |pod| is_settled(pod) && has(pod, "cpu").0 == large).await;
    assert_eq!(has(&pod, "cpu"), (large.clone(), large, 0));
}

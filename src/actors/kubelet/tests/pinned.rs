//! Pods with CPUs of their own, with a kubelet on the fake runtime.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_api::service::DeleteOptions;
use troupe_unix_grpc::Service;

use super::stage::{PATIENCE, Stage};
use crate::kubelet::{
    KubeletOptions,
    container_manager::{ContainerManagerOptions, StaticCpus, cpu::testing::topology},
    node::reserved::Reserved,
    pod_resources::proto::{GetRequest, GetResponse},
};

/// A kubelet with so many CPUs, one thousandth of which is its own.
fn pinning(cpus: u32) -> impl FnOnce(&mut KubeletOptions) {
    move |options| {
        let static_cpus = StaticCpus { reconcile_period: Duration::from_secs(3600), ..StaticCpus::default() };
        options.reserved = Reserved { milli_cpus: 1, ..Reserved::default() };
        options.container_manager =
            ContainerManagerOptions { static_cpus: Some(static_cpus), topology: Some(topology(1, 1, cpus, 1)), ..ContainerManagerOptions::default() };
    }
}

/// A pod of one container with such a name.
fn container(name: &str, resources: Value) -> Value {
    json!({"containers": [{"name": name, "image": "web", "imagePullPolicy": "Never", "resources": resources}]})
}

fn is(phase: &'static str) -> impl Fn(&Pod) -> bool {
    move |pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some(phase))
}

impl Stage {
    async fn until_it_runs(&self, what: &str, holds: impl Fn(&Stage) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(tokio::time::Instant::now() < deadline, "{what}: {:#?}", self.runtime.calls());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// On which CPUs a container runs.
    fn cpus_of(&self, name: &str) -> Option<String> {
        Some(self.runtime.container_named(name)?.config.linux?.resources?.cpuset_cpus)
    }

    /// The CPUs of which the kubelet tells other programs of the node that a container has them for itself.
    async fn told_cpus(&self, name: &str) -> Vec<i64> {
        let socket = self.place.path().join("kubelet/pod-resources/kubelet.sock");
        let request = GetRequest { pod_name: name.into(), pod_namespace: "default".into() };
        let answer: Result<GetResponse, _> = Service::new(&socket, PATIENCE).ask("/v1.PodResourcesLister/Get", request).await;
        let pod = answer.expect("the pod runs").pod.expect("a pod");
        pod.containers.into_iter().flat_map(|container| container.cpu_ids).collect()
    }

    fn quota(&self, name: &str) -> Option<i64> {
        Some(self.runtime.container_named(name)?.config.linux?.resources?.cpu_quota)
    }
}

fn has(name: &'static str, cpus: &'static str) -> impl Fn(&Stage) -> bool {
    move |stage| stage.cpus_of(name).as_deref() == Some(cpus)
}

#[actix::test]
async fn who_shares_leaves_the_cpus_that_others_get_and_a_new_kubelet_knows_them() {
    let stage = Stage::new().await;
    let (kubelet, system) = stage.kubelet(pinning(4)).await;
    stage.create("shares", container("shares", json!({}))).await;
    stage.until_it_runs("it runs anywhere", has("shares", "0-3")).await;
    let one = json!({"cpu": "1", "memory": "64Mi"});
    stage.create("own", container("own", json!({"limits": one, "requests": one}))).await;
    stage.until_it_runs("it has a CPU", has("own", "1")).await;
    stage.until_it_runs("the other one leaves it", has("shares", "0,2-3")).await;
    assert_eq!(stage.quota("own"), Some(-1), "nothing holds it back there");
    stage.until("own", "running", is("Running")).await;
    assert_eq!((stage.told_cpus("own").await, stage.told_cpus("shares").await), (vec![1], vec![]));
    drop(kubelet);
    assert!(system.shutdown(Duration::from_secs(5)).await);
    let (_kubelet, _system) = stage.kubelet(pinning(4)).await;
    stage.create("late", container("late", json!({}))).await;
    stage.until_it_runs("it stays out", has("late", "0,2-3")).await;
    assert_eq!(stage.cpus_of("own").as_deref(), Some("1"));
    stage.api.delete("pods", "default", "own", DeleteOptions::default()).await.expect("takes it");
    stage.until_it_runs("it is shared again", |stage| has("late", "0-3")(stage) && has("shares", "0-3")(stage)).await;
}

#[actix::test]
async fn a_pod_that_cannot_have_its_cpus_fails_with_the_reason() {
    let stage = Stage::new().await;
    // The only CPU is reserved, which the scheduler's filters do not know.
    let (_kubelet, _system) = stage.kubelet(pinning(1)).await;
    let one = json!({"cpu": "1", "memory": "64Mi"});
    stage.create("own", container("own", json!({"limits": one, "requests": one}))).await;
    let pod = stage.until("own", "failed", is("Failed")).await;
    let status = pod.status.clone().expect("a status");
    assert_eq!(status.reason.as_deref(), Some("UnexpectedAdmissionError"));
    let why = "Pod was rejected: Allocate failed due to not enough cpus available to satisfy request: requested=1, available=0, which is unexpected";
    assert_eq!(status.message.as_deref(), Some(why));
    assert_eq!(stage.cpus_of("own"), None);
}

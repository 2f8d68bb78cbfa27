//! Pods whose runtime has forgotten all of them, as when their node was taken down: what is known then lies in the API and on disk.

use std::{fs, path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_api::{meta::SystemClock, service::DeleteOptions};
use troupe_cri::{FakeRuntime, Runtime, names, proto};

use crate::{
    apiserver::testing::{TestApi, boot},
    kubelet::{Kubelet, KubeletOptions},
    runtime::system::{System, SystemOptions},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A kubelet with a runtime that knows nothing yet, in a directory that others had before.
pub async fn kubelet(api: &TestApi, place: &Path) -> (Kubelet, System, Arc<FakeRuntime>) {
    let runtime = Arc::new(FakeRuntime::with_images(&["web:latest"]));
    let (kubelet, system) = kubelet_on(api, place, runtime.clone()).await;
    (kubelet, system, runtime)
}

async fn kubelet_on(api: &TestApi, place: &Path, runtime: Arc<FakeRuntime>) -> (Kubelet, System) {
    let options = KubeletOptions {
        client: Some(api.client.clone()),
        root_dir: place.join("kubelet"),
        log_dir: place.join("logs"),
        container_log_dir: "".into(),
        cgroups_per_qos: false,
        node_ips: vec!["127.0.0.1".parse().expect("an address")],
        ..KubeletOptions::new("n1", runtime)
    };
    let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("a system");
    (Kubelet::start(options, &system).await.expect("starts"), system)
}

pub async fn create(api: &TestApi, name: &str, policy: &str) -> String {
    let container = json!({"name": name, "image": "web", "imagePullPolicy": "Never"});
    let pod: Value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "n1", "restartPolicy": policy, "automountServiceAccountToken": false, "containers": [container]}});
    api.create(pod).await.root()["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

pub async fn until(api: &TestApi, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let pod = api.client.namespaced::<Pod>("default").get_opt(name).await.expect("the API answers");
        if pod.as_ref().is_some_and(|pod| holds(pod)) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name} is not {what}: {:#?}", pod.map(|pod| pod.status.clone()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// That a container runs for the nth time.
fn runs(restarts: i32) -> impl Fn(&Pod) -> bool {
    move |pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.into_iter().flatten().any(|status| status.restart_count == restarts && status.state.as_ref().is_some_and(|s| s.running.is_some()))
    }
}

#[actix::test]
async fn logs_of_containers_are_found_although_the_runtime_has_forgotten_them() {
    let (api, place) = (boot().await, tempfile::tempdir().expect("a directory"));
    let (first, system, runtime) = kubelet(&api, place.path()).await;
    let (web, once) = (create(&api, "web", "Always").await, create(&api, "once", "Never").await);
    until(&api, "web", "running", runs(0)).await;
    until(&api, "once", "running", runs(0)).await;
    assert!(first.handle().log("default", "web", None, "web", true).await.is_err(), "there is none before the first");
    let logs = |name: &str, uid: &str| place.path().join(format!("logs/default_{name}_{uid}/{name}"));
    for folder in [logs("web", &web), logs("once", &once)] {
        fs::create_dir_all(&folder).expect("makes");
        fs::write(folder.join("0.log"), "").expect("writes");
    }
    runtime.exit(&runtime.container_named("once").expect("it ran").id, 0);
    until(&api, "once", "over", |pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")).await;
    drop(first);
    assert!(system.shutdown(Duration::from_secs(5)).await);

    let (second, system, runtime) = kubelet(&api, place.path()).await;
    until(&api, "web", "running again", runs(1)).await;
    let log = second.handle().log("default", "web", None, "web", true).await.expect("the one before");
    assert_eq!((log.path, log.running), (logs("web", &web).join("0.log"), false));
    let log = second.handle().log("default", "once", None, "once", false).await.expect("it stays to be read");
    assert_eq!((log.path.clone(), log.running), (logs("once", &once).join("0.log"), false));
    assert!(log.path.exists() && runtime.container_named("once").is_none());
    for name in ["web", "once"] {
        api.delete("pods", "default", name, DeleteOptions::default()).await.expect("takes it");
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while fs::read_dir(place.path().join("logs")).expect("the folder").count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "logs of pods that are gone stay");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(second);
    assert!(system.shutdown(Duration::from_secs(5)).await);
}

#[actix::test]
async fn a_sandbox_of_a_pod_that_nobody_knows_is_removed_although_nothing_of_it_is_on_disk() {
    let (api, place) = (boot().await, tempfile::tempdir().expect("a directory"));
    let runtime = Arc::new(FakeRuntime::default());
    let labels = [(names::POD_NAME, "old"), (names::POD_NAMESPACE, "default"), (names::POD_UID, "u")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    runtime.run_pod_sandbox(proto::PodSandboxConfig { labels, ..Default::default() }, "").await.expect("runs");
    let (kubelet, system) = kubelet_on(&api, place.path(), runtime.clone()).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !runtime.list_pod_sandboxes(proto::PodSandboxFilter::default()).await.expect("lists").is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "it stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(kubelet);
    assert!(system.shutdown(Duration::from_secs(5)).await);
}

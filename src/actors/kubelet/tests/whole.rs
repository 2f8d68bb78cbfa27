//! The whole kubelet between an in-memory API server and a real containerd.

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use troupe_api::{meta::SystemClock, service::DeleteOptions};
use troupe_cri::GrpcRuntime;

use super::containerd::{BUSYBOX, Containerd};
use crate::{
    apiserver::testing::{TestApi, boot},
    kubelet::{Kubelet, KubeletOptions},
    runtime::system::{System, SystemOptions},
};

const PATIENCE: Duration = Duration::from_secs(90);

fn options(api: &TestApi, containerd: &Containerd) -> KubeletOptions {
    let place = containerd.place.path();
    KubeletOptions {
        client: Some(api.client.clone()),
        root_dir: place.join("kubelet"),
        log_dir: place.join("logs"),
        container_log_dir: place.join("links"),
        cgroup_parent: format!("troupe-whole-{}", std::process::id()),
        node_ips: vec!["127.0.0.1".parse().expect("an address")],
        ..KubeletOptions::new("n1", Arc::new(GrpcRuntime::new(containerd.socket())))
    }
}

fn system() -> System {
    System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("a system")
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    pod["spec"]["nodeName"] = "n1".into();
    pod["spec"]["automountServiceAccountToken"] = false.into();
    pod
}

fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]})
}

async fn until(api: &TestApi, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Arc<Pod> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let pod = api.client.namespaced::<Pod>("default").get(name).await.expect("the pod exists");
        if holds(&pod) {
            return pod;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name} is not {what}: {:#?}", pod.status);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_gone(api: &TestApi, name: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Some(pod) = api.client.namespaced::<Pod>("default").get_opt(name).await.expect("the API answers") {
        assert!(tokio::time::Instant::now() < deadline, "{name} is still there: {:#?}", pod.status);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn waits_for(pod: &Pod, reason: &str) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().any(|status| status.state.as_ref().and_then(|s| s.waiting.as_ref()?.reason.as_deref()) == Some(reason))
}

fn container_id(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.container_id.clone()
}

async fn node_is_ready(api: &TestApi) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let node = api.client.all::<Node>().get_opt("n1").await.expect("the API answers");
        let conditions = node.as_ref().and_then(|node| node.status.as_ref()?.conditions.as_ref());
        if conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{node:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[actix::test]
async fn pods_live_from_create_to_delete_across_a_restart_of_the_kubelet() {
    let (api, containerd) = (boot().await, Containerd::start().await);
    api.ensure(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-node-lease"}})).await;
    let first = system();
    let kubelet = Kubelet::start(options(&api, &containerd), &first).await.expect("starts");
    node_is_ready(&api).await;

    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": "default"}, "data": {"greeting": "hello"}});
    api.create(pod("web", web_spec())).await;
    until(&api, "web", "waiting for its config map", |pod| waits_for(pod, "ContainerCreating") || waits_for(pod, "PodInitializing")).await;
    api.create(config).await;
    api.create(pod("crash", json!({"containers": [container("c", "echo last words > /dev/termination-log; exit 3")]}))).await;
    let web = until(&api, "web", "ready", is_ready).await;
    let crashed = until(&api, "crash", "backing off", |pod| waits_for(pod, "CrashLoopBackOff")).await;
    let last = crashed.status.as_ref().and_then(|s| s.container_statuses.as_ref()?[0].last_state.as_ref()?.terminated.clone()).expect("it ended");
    assert_eq!((last.exit_code, last.message.as_deref()), (3, Some("last words\n")));
    let log = kubelet.handle().log("default", "web", None, "main", false).await.expect("a log");
    let text = std::fs::read_to_string(&log.path).expect("readable");
    assert!(text.contains("hello") && text.contains("from init"), "{text}");
    assert!(kubelet.handle().container("default", "web", None, "").await.is_ok());

    drop(kubelet);
    assert!(first.shutdown(Duration::from_secs(5)).await);
    let second = system();
    let kubelet = Kubelet::start(options(&api, &containerd), &second).await.expect("starts again");
    api.create(pod("late", json!({"restartPolicy": "Never", "containers": [container("c", "true")]}))).await;
    until(&api, "late", "succeeded", |pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Succeeded")).await;
    let still = until(&api, "web", "ready", is_ready).await;
    assert_eq!(container_id(&still), container_id(&web), "a restart of the kubelet touches no container");

    let uid = web.metadata.uid.clone().expect("a uid");
    for name in ["web", "crash", "late"] {
        api.delete("pods", "default", name, DeleteOptions::default()).await.expect("takes it");
    }
    for name in ["web", "crash", "late"] {
        until_gone(&api, name).await;
    }
    let place = containerd.place.path();
    assert!(is_empty(&place.join("kubelet/pods")) && is_empty(&place.join("logs")) && is_empty(&place.join("links")), "{uid} left something");
    let reasons = reasons(&api).await;
    for reason in ["Pulled", "Created", "Started", "Killing", "BackOff", "FailedMount"] {
        assert!(reasons.iter().any(|seen| seen == reason), "{reason} among {reasons:?}");
    }
    drop(kubelet);
    assert!(second.shutdown(Duration::from_secs(5)).await);
}

fn web_spec() -> Value {
    let mut main = container("main", "trap 'exit 0' TERM; cat /config/greeting /shared/file; while true; do sleep 0.1; done");
    main["volumeMounts"] = json!([{"name": "config", "mountPath": "/config"}, {"name": "shared", "mountPath": "/shared"}]);
    main["readinessProbe"] = json!({"exec": {"command": ["test", "-e", "/shared/file"]}, "periodSeconds": 1});
    main["livenessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    main["lifecycle"] = json!({"preStop": {"exec": {"command": ["touch", "/shared/stopping"]}}});
    let mut init = container("init", "echo from init > /shared/file");
    init["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
    json!({"terminationGracePeriodSeconds": 10, "initContainers": [init], "containers": [main],
        "volumes": [{"name": "config", "configMap": {"name": "config"}}, {"name": "shared", "emptyDir": {}}]})
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

async fn reasons(api: &TestApi) -> Vec<String> {
    let events = api.client.namespaced::<k8s_openapi::api::core::v1::Event>("default").list(Default::default()).await.expect("lists");
    events.items.iter().filter_map(|event| event.reason.clone()).collect()
}

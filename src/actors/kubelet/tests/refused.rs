//! Pods that ask for more isolation than the node has, with a kubelet on the fake runtime.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};
use troupe_api::{
    meta::SystemClock,
    service::{DeleteOptions, ListOptions},
};
use troupe_cri::{FakeRuntime, Runtime, proto};

use crate::{
    apiserver::testing::{TestApi, boot},
    kubelet::{Kubelet, KubeletOptions},
    runtime::system::{System, SystemOptions},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A kubelet without a runtime behind it.
struct Stage {
    api: TestApi,
    runtime: Arc<FakeRuntime>,
    place: tempfile::TempDir,
    _kubelet: Kubelet,
    _system: System,
}

impl Stage {
    async fn new(runtime: FakeRuntime) -> Self {
        Stage::with_room(runtime, 110).await
    }

    /// On a node that takes so many pods.
    async fn with_room(runtime: FakeRuntime, max_pods: u32) -> Self {
        let (api, place, runtime) = (boot().await, tempfile::tempdir().expect("a directory"), Arc::new(runtime));
        let manifests = place.path().join("manifests");
        std::fs::create_dir(&manifests).expect("a folder");
        let options = KubeletOptions {
            client: Some(api.client.clone()),
            root_dir: place.path().join("kubelet"),
            log_dir: place.path().join("logs"),
            container_log_dir: "".into(),
            cgroups_per_qos: false,
            node_ips: vec!["127.0.0.1".parse().expect("an address")],
            static_pod_dir: Some(manifests),
            max_pods,
            ..KubeletOptions::new("n1", runtime.clone())
        };
        let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("a system");
        let kubelet = Kubelet::start(options, &system).await.expect("starts");
        Stage { api, runtime, place, _kubelet: kubelet, _system: system }
    }

    async fn create(&self, name: &str, spec: Value) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        pod["spec"]["nodeName"] = "n1".into();
        pod["spec"]["automountServiceAccountToken"] = false.into();
        pod["spec"]["containers"] = json!([{"name": "c", "image": "web", "imagePullPolicy": "Never"}]);
        self.api.create(pod).await;
    }

    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pod = self.api.client.namespaced::<Pod>("default").get_opt(name).await.expect("the API answers");
            if let Some(pod) = pod.as_ref().filter(|pod| holds(pod)) {
                return pod.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} is not {what}: {:#?}", pod.map(|pod| pod.status.clone()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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

    fn made(&self) -> Vec<String> {
        self.runtime.calls().into_iter().filter(|call| call.starts_with("run_pod_sandbox") || call.starts_with("create_container")).collect()
    }
}

fn failed(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"))
}

fn running(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

#[actix::test]
async fn a_pod_that_is_not_let_in_fails_with_the_reason_and_nothing_of_it_is_made() {
    let stage = Stage::new(FakeRuntime::with_images(&["web:latest"])).await;
    stage.create("tuned", json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}})).await;
    let status = stage.until("tuned", "failed", failed).await.status.clone().expect("a status");
    assert_eq!(status.reason.as_deref(), Some("SysctlForbidden"));
    assert_eq!(status.message.as_deref(), Some("Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted"));
    assert_eq!(status.container_statuses, None);
    assert_eq!(stage.event("SysctlForbidden").await, "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    stage.create("strict", json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}})).await;
    let status = stage.until("strict", "failed", failed).await.status.clone().expect("a status");
    assert_eq!(status.reason.as_deref(), Some("SupplementalGroupsPolicyNotSupported"));
    assert_eq!(stage.made(), [""; 0]);
}

#[actix::test]
async fn a_runtime_that_can_keep_groups_out_is_told_to() {
    let runtime = FakeRuntime::with_images(&["web:latest"]);
    runtime.offer_features(proto::RuntimeFeatures { supplemental_groups_policy: true });
    let stage = Stage::new(runtime).await;
    stage.create("strict", json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}})).await;
    stage.until("strict", "running", running).await;
    let context = stage.runtime.container_named("c").and_then(|made| made.config.linux?.security_context).expect("a context");
    assert_eq!(context.supplemental_groups_policy(), proto::SupplementalGroupsPolicy::Strict);
}

#[actix::test]
async fn a_pod_with_users_of_its_own_gets_no_sandbox() {
    let stage = Stage::new(FakeRuntime::with_images(&["web:latest"])).await;
    stage.create("apart", json!({"hostUsers": false})).await;
    let why = "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces";
    assert_eq!(stage.event("FailedCreatePodSandBox").await, why);
    assert_eq!(stage.made(), [""; 0]);
}

#[actix::test]
async fn a_pod_with_users_of_its_own_has_ids_of_the_node_where_the_runtime_can_map_them() {
    let runtime = FakeRuntime::with_images(&["web:latest"]);
    runtime.offer_handler("", proto::RuntimeHandlerFeatures { user_namespaces: true, ..Default::default() });
    let stage = Stage::new(runtime).await;
    stage.create("apart", json!({"hostUsers": false})).await;
    stage.until("apart", "running", running).await;
    let made = stage.runtime.container_named("c").expect("a container").config;
    let mounts = made.mounts.clone();
    let options = made.linux.and_then(|linux| linux.security_context?.namespace_options?.userns_options).expect("users");
    assert_eq!((options.mode(), options.uids.len(), &options.uids), (proto::NamespaceMode::Pod, 1, &options.gids));
    let ids = options.uids[0];
    assert!(ids.container_id == 0 && ids.host_id >= 65_536 && ids.length == 65_536, "{ids:?}");
    assert!(!mounts.is_empty() && mounts.iter().all(|mount| mount.uid_mappings == options.uids && mount.gid_mappings == options.gids));
}

#[actix::test]
async fn a_pod_without_its_secret_for_images_starts_and_is_told_of_it() {
    let stage = Stage::new(FakeRuntime::with_images(&["web:latest"])).await;
    stage.create("open", json!({"imagePullSecrets": [{"name": "a"}, {"name": "b"}]})).await;
    stage.until("open", "running", running).await;
    let why = "Unable to retrieve some image pull secrets (a, b); attempting to pull the image may not succeed.";
    assert_eq!(stage.event("FailedToRetrieveImagePullSecret").await, why);
}

#[actix::test]
async fn a_sandbox_that_is_made_anew_is_told_of() {
    let stage = Stage::new(FakeRuntime::with_images(&["web:latest"])).await;
    stage.create("web", json!({})).await;
    stage.until("web", "running", running).await;
    let sandboxes = stage.runtime.list_pod_sandboxes(proto::PodSandboxFilter::default()).await.expect("lists");
    stage.runtime.stop_pod_sandbox(&sandboxes[0].id).await.expect("stops");
    assert_eq!(stage.event("SandboxChanged").await, "Pod sandbox changed, it will be killed and re-created.");
}

#[actix::test]
async fn a_runtime_class_reaches_the_runtime_or_the_pod_waits() {
    let stage = Stage::new(FakeRuntime::with_images(&["web:latest"])).await;
    stage.api.create(json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "vm"}, "handler": "kata"})).await;
    stage.create("apart", json!({"runtimeClassName": "vm"})).await;
    stage.until("apart", "running", running).await;
    assert!(stage.made().contains(&"run_pod_sandbox apart kata".to_owned()), "{:?}", stage.made());
    let manifest = "{apiVersion: v1, kind: Pod, metadata: {name: alone}, spec: {runtimeClassName: none, containers: [{name: c, image: web}]}}";
    std::fs::write(stage.place.path().join("manifests/alone.yaml"), manifest).expect("writes");
    let why = "Failed to create pod sandbox: RuntimeClass \"none\" not found";
    assert_eq!(stage.event("FailedCreatePodSandBox").await, why);
}

#[actix::test]
async fn a_manifest_is_asked_the_same_as_a_pod_of_the_api() {
    let stage = Stage::new(FakeRuntime::with_images(&["web:latest"])).await;
    let write = |name: &str, spec: &str| {
        let manifest = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{spec}}}}}");
        std::fs::write(stage.place.path().join(format!("manifests/{name}.yaml")), manifest).expect("writes");
    };
    write("bare", "containers: [{name: c, image: web, securityContext: {procMount: Unmasked}}]");
    write("tuned", "securityContext: {sysctls: [{name: kernel.msgmax, value: '65536'}]}, containers: [{name: c, image: web}]");
    assert_eq!(stage.event("SysctlForbidden").await, "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    assert_eq!(stage.made(), [""; 0], "what the API server would refuse is not even a pod");
}

#[actix::test]
async fn a_mirror_pod_made_anew_shows_the_whole_status_again() {
    let stage = Stage::new(FakeRuntime::with_images(&["web:latest"])).await;
    let manifest = "{apiVersion: v1, kind: Pod, metadata: {name: alone}, spec: {containers: [{name: c, image: web, imagePullPolicy: Never}]}}";
    std::fs::write(stage.place.path().join("manifests/alone.yaml"), manifest).expect("writes");
    let first = stage.until("alone-n1", "running", running).await;
    let made = stage.made();
    stage.api.delete("pods", "default", "alone-n1", DeleteOptions::default()).await.expect("takes it");
    let again = stage.until("alone-n1", "another that runs", |pod| pod.metadata.uid != first.metadata.uid && running(pod)).await;
    let container = |pod: &Pod| pod.status.as_ref()?.container_statuses.as_ref()?.first()?.container_id.clone();
    assert!(container(&first).is_some() && container(&again) == container(&first), "{:#?}", again.status);
    assert_eq!(stage.made(), made, "nothing of it starts anew");
}

#[actix::test]
async fn a_pod_makes_room_for_a_critical_one_which_starts_when_it_has_ended() {
    let stage = Stage::with_room(FakeRuntime::with_images(&["web:latest"]), 1).await;
    stage.create("plain", json!({"terminationGracePeriodSeconds": 5})).await;
    stage.until("plain", "running", running).await;
    let manifest = "{apiVersion: v1, kind: Pod, metadata: {name: needed}, spec: {containers: [{name: c, image: web, imagePullPolicy: Never}]}}";
    std::fs::write(stage.place.path().join("manifests/needed.yaml"), manifest).expect("writes");
    stage.until("needed-n1", "running", running).await;
    let status = stage.until("plain", "failed", failed).await.status.clone().expect("a status");
    let why = "Preempted in order to admit critical pod";
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("Preempting"), Some(why)));
    let told = status.conditions.iter().flatten().find(|condition| condition.type_ == "DisruptionTarget").expect("a condition");
    assert_eq!(told.message.as_deref(), Some("Pod was preempted by Kubelet to accommodate a critical pod."));
    assert_eq!(stage.event("Preempting").await, why);
    stage.create("another", json!({})).await;
    let status = stage.until("another", "failed", failed).await.status.clone().expect("a status");
    assert_eq!(status.reason.as_deref(), Some("OutOfpods"), "nothing makes room for what is not critical");
}

#[actix::test]
async fn nobody_makes_room_for_a_critical_pod_that_is_not_let_in() {
    let stage = Stage::with_room(FakeRuntime::with_images(&["web:latest"]), 1).await;
    stage.create("plain", json!({"terminationGracePeriodSeconds": 5})).await;
    stage.until("plain", "running", running).await;
    let sysctls = "securityContext: {sysctls: [{name: kernel.msgmax, value: '65536'}]}";
    let spec = format!("{{{sysctls}, containers: [{{name: c, image: web, imagePullPolicy: Never}}]}}");
    let manifest = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: needed}}, spec: {spec}}}");
    std::fs::write(stage.place.path().join("manifests/needed.yaml"), manifest).expect("writes");
    let status = stage.until("needed-n1", "failed", failed).await.status.clone().expect("a status");
    assert_eq!(status.reason.as_deref(), Some("SysctlForbidden"));
    let plain = stage.until("plain", "there", |_| true).await;
    assert!(running(&plain) && plain.metadata.deletion_timestamp.is_none(), "{:#?}", plain.status);
}

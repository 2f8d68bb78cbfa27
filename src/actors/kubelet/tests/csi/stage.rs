//! The stage of these tests: a node with one kubelet after another, and an API server that stays.

use std::{fs, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use troupe_api::{
    Status,
    auth::{
        Authenticator, Credentials,
        chain::{AuthorizerChain, PrivilegedGroups},
        node::NodeAuthorizer,
        rbac::Rbac,
        tokens::{Issuer, SigningKey},
    },
    certificates::Draft,
    meta::SystemClock,
    service::{DeleteOptions, ListOptions, PatchType, UserInfo},
};
use troupe_api_client::Client;
use troupe_api_server::store::memory::MemoryStore;
use troupe_cri::FakeRuntime;

use super::driver::{Driver, NAME, Served};
use crate::{
    apiserver::{
        ApiServerOptions, AuthResources, VirtualResources,
        testing::{TestApi, boot_with},
    },
    kubelet::{Kubelet, KubeletOptions, csi::proto::RpcType},
    runtime::system::{System, SystemOptions},
};

const PATIENCE: Duration = Duration::from_secs(60);
pub const STAGES: [RpcType; 3] = [RpcType::StageUnstageVolume, RpcType::GetVolumeStats, RpcType::ExpandVolume];

/// Knows nobody's credentials.
struct Nobody;

impl Authenticator for Nobody {
    fn authenticate(&self, _credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        Ok(None)
    }
}

/// An API server that lets nodes and controllers do what is theirs, and signs tokens.
async fn guarded() -> TestApi {
    let key = Draft::node_client("n1").with_new_key().expect("a key");
    let issuer = Arc::new(Issuer::new(SigningKey::from_pem(&key.key_pem).expect("a key")));
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.authorizer = Some(Box::new(|listers| {
        Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups), Arc::new(NodeAuthorizer::new(listers.clone())), Arc::new(Rbac::new(listers))]))
    }));
    options.virtual_resources = Some(Box::new(move |_| {
        let answers: Arc<dyn VirtualResources> = Arc::new(AuthResources { issuer, authenticator: Arc::new(Nobody), clock: Arc::new(SystemClock) });
        vec![answers]
    }));
    let api = boot_with(options).await;
    for namespace in ["kube-public", "kube-node-lease"] {
        api.ensure(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
    }
    for object in troupe_api::auth::bootstrap::objects() {
        api.ensure(object.into_value()).await;
    }
    api
}

/// A node with one kubelet after another, and an API server that stays.
pub struct Stage {
    pub api: TestApi,
    /// Acts as the node, with no more rights than it has.
    client: Client,
    pub runtime: Arc<FakeRuntime>,
    pub place: tempfile::TempDir,
    pub running: Option<(Kubelet, System)>,
}

impl Stage {
    pub async fn new() -> Self {
        let runtime = Arc::new(FakeRuntime::with_images(&["web:latest"]));
        let api = guarded().await;
        let user =
            UserInfo { name: "system:node:n1".into(), groups: vec!["system:nodes".into(), "system:authenticated".into()], ..UserInfo::default() };
        let client = Client::new(api.server.clone(), Arc::new(user), "kubelet");
        let mut stage = Stage { api, client, runtime, place: tempfile::tempdir().expect("a directory"), running: None };
        stage.start().await;
        stage
    }

    pub async fn start(&mut self) {
        let place = self.place.path();
        let options = KubeletOptions {
            client: Some(self.client.clone()),
            root_dir: place.join("kubelet"),
            log_dir: place.join("logs"),
            container_log_dir: "".into(),
            cgroups_per_qos: false,
            node_ips: vec!["192.0.2.1".parse().expect("an address")],
            ..KubeletOptions::new("n1", self.runtime.clone())
        };
        let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("a system");
        let kubelet = Kubelet::start(options, &system).await.expect("starts");
        self.running = Some((kubelet, system));
    }

    /// Ends the kubelet at once, whatever is under way: nothing is told to anybody.
    pub async fn kill(&mut self) {
        let (kubelet, system) = self.running.take().expect("it runs");
        drop(kubelet);
        system.shutdown(Duration::ZERO).await;
    }

    /// A driver that the kubelet has heard of.
    pub async fn driver(&self, able: &[RpcType]) -> Served {
        let served = Driver::new(self.place.path(), able).serve(&self.place.path().join("kubelet/plugins_registry"));
        self.until("the driver is registered", async || served.driver.registered.lock().iter().any(|status| status.plugin_registered)).await;
        served
    }

    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds().await {
            let events = self.api.client.namespaced::<Event>("default").list(ListOptions::default()).await.expect("events").items;
            let told: Vec<_> = events.iter().map(|event| (event.reason.clone(), event.message.clone())).collect();
            assert!(tokio::time::Instant::now() < deadline, "it never happened that {what}: {told:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn pod_is(&self, name: &str, phase: &str) {
        self.until(&format!("{name} is {phase}"), async || {
            let pod = self.api.client.namespaced::<Pod>("default").get_opt(name).await.expect("answers");
            pod.is_some_and(|pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some(phase)))
        })
        .await;
    }

    pub async fn event(&self, reason: &str, text: &str) {
        self.until(&format!("there is an event {reason} with {text}"), async || {
            let events = self.api.client.namespaced::<Event>("default").list(ListOptions::default()).await.expect("events").items;
            events.iter().any(|event| event.reason.as_deref() == Some(reason) && event.message.as_deref().is_some_and(|said| said.contains(text)))
        })
        .await;
    }

    /// A volume with a claim that are bound to each other.
    pub async fn bound(&self, name: &str, spec: Value) {
        self.api.create(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
            "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": name, "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": spec.get("volumeMode").cloned().unwrap_or_else(|| "Filesystem".into())}})).await;
        let claims = self.api.client.namespaced::<PersistentVolumeClaim>("default");
        let uid = claims.get(name).await.expect("is there").metadata.uid.clone();
        let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": NAME, "volumeHandle": format!("h-{name}")},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": name, "uid": uid}}});
        for (key, value) in spec.as_object().expect("an object") {
            match (volume["spec"].get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
                (Some(known), Some(more)) => known.extend(more.clone()),
                _ => volume["spec"][key] = value.clone(),
            }
        }
        self.api.create(volume).await;
        let status = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        claims.patch(name, "status", PatchType::Merge, &status).await.expect("is bound");
    }

    pub async fn csi_driver(&self, spec: Value) {
        self.api.create(json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": NAME}, "spec": spec})).await;
    }

    pub async fn pod(&self, name: &str, volume: Value, more: Value) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
            "nodeName": "n1", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1, "volumes": [volume],
            "containers": [{"name": name, "image": "web", "imagePullPolicy": "Never", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}});
        for (key, value) in more.as_object().expect("an object") {
            pod["spec"][key] = value.clone();
        }
        self.api.create(pod).await;
    }

    pub async fn delete_pod(&self, name: &str) {
        self.api.delete("pods", "default", name, DeleteOptions::default()).await.expect("takes it");
        self.until(&format!("{name} is gone"), async || self.api.client.namespaced::<Pod>("default").get_opt(name).await.expect("answers").is_none())
            .await;
    }

    /// The host's side of what a pod's only container has at `/v`.
    pub fn mounted(&self, container: &str) -> std::path::PathBuf {
        let made = self.runtime.container_named(container).expect("it was made");
        let mount = made.config.mounts.iter().find(|mount| mount.container_path == "/v").expect("it has the volume").clone();
        mount.host_path.into()
    }

    /// What is left of volumes on the node.
    pub fn left(&self) -> Vec<std::path::PathBuf> {
        let root = self.place.path().join("kubelet");
        let list = |path: &str| fs::read_dir(root.join(path)).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
        let staged = list(&format!("plugins/kubernetes.io/csi/{NAME}"));
        list("pods").into_iter().chain(staged).chain(list("plugins/kubernetes.io/csi/volumeDevices/staging")).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A test that failed leaves mounts.
        let _ = crate::files::mounts::unmount_below(self.place.path());
    }
}

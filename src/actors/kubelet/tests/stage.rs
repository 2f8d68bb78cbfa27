//! A node with a kubelet on the fake runtime, which can be started again.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_api::meta::SystemClock;
use troupe_cri::FakeRuntime;

use crate::{
    apiserver::testing::{TestApi, boot},
    kubelet::{Kubelet, KubeletOptions},
    runtime::system::{System, SystemOptions},
};

/// What takes longer never happens.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The node `n1`, whose runtime has the image `web`.
pub struct Stage {
    pub api: TestApi,
    pub runtime: Arc<FakeRuntime>,
    pub place: tempfile::TempDir,
}

impl Stage {
    pub async fn new() -> Self {
        let runtime = Arc::new(FakeRuntime::with_images(&["web:latest"]));
        Stage { api: boot().await, runtime, place: tempfile::tempdir().expect("a directory") }
    }

    /// Starts a kubelet, with options that may be adjusted, in the directories of those before it.
    pub async fn kubelet(&self, adjust: impl FnOnce(&mut KubeletOptions)) -> (Kubelet, System) {
        let mut options = KubeletOptions {
            client: Some(self.api.client.clone()),
            root_dir: self.place.path().join("kubelet"),
            log_dir: self.place.path().join("logs"),
            container_log_dir: "".into(),
            cgroups_per_qos: false,
            node_ips: vec!["127.0.0.1".parse().expect("an address")],
            ..KubeletOptions::new("n1", self.runtime.clone())
        };
        adjust(&mut options);
        let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("a system");
        let kubelet = Kubelet::start(options, &system).await.expect("starts");
        (kubelet, system)
    }

    /// Creates a pod on the node, of a spec that says the rest.
    pub async fn create(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = "n1".into();
        spec["automountServiceAccountToken"] = false.into();
        spec["terminationGracePeriodSeconds"] = 0.into();
        self.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
    }

    /// Waits until a pod is as it should be.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pod = self.api.client.namespaced::<Pod>("default").get_opt(name).await.expect("the API answers");
            if let Some(pod) = pod.as_ref().filter(|pod| holds(pod)) {
                return pod.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} is not {what}: {pod:#?} {:#?}", self.runtime.calls());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::{Value, json};
use troupe_api::{
    meta::Object,
    metrics::{parse::Samples, render},
    service::{DeleteOptions, ListOptions, PatchType},
};

use super::{World, eventually, eventually_async};
use crate::{controllers::attach_detach, storage::operations::COLLECTORS};

const IN_USE: &str = "kubernetes.io/csi/d.example.com^h";

impl World {
    fn attaches(&self) {
        let (attacher, nodes) = attach_detach::controllers(&self.caches);
        self.start(attacher);
        self.start(nodes);
    }

    /// A volume that one node at most may have, bound to a claim of its name.
    async fn exclusive_volume(&self, name: &str) {
        let claim = json!({"namespace": "default", "name": name});
        self.api.create(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "claimRef": claim, "csi": {"driver": "d.example.com", "volumeHandle": "h"}}})).await;
        self.api
            .create(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}}}))
            .await;
        eventually_async("the claim is bound", async || {
            let claim: Object = self.api.get("persistentvolumeclaims", "default", name).await.expect("is there");
            claim.str(&["status", "phase"]) == "Bound"
        })
        .await;
    }

    async fn pod_on(&self, node: &str, name: &str, claim: &str) {
        let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
        let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "a:1"}], "volumes": volumes, "terminationGracePeriodSeconds": 0});
        self.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
    }

    /// The nodes that attachments are for.
    async fn attached_to(&self) -> Vec<String> {
        let all = self.client().all::<VolumeAttachment>().list(ListOptions::default()).await.expect("answers").items;
        all.iter().map(|attachment| attachment.spec.node_name.clone()).collect()
    }

    /// Plays the external attacher: says that all volumes are where they are wanted.
    async fn attach_all(&self) {
        let attachments = self.client().all::<VolumeAttachment>();
        for attachment in attachments.list(ListOptions::default()).await.expect("answers").items {
            let name = attachment.metadata.name.as_deref().unwrap_or_default();
            attachments.patch(name, "status", PatchType::Merge, &json!({"status": {"attached": true}})).await.expect("takes it");
        }
    }

    async fn node_status(&self, node: &str, status: Value) {
        let target = self.api.subresource("nodes", "", node, "status");
        self.api.patch(target, PatchType::Merge, json!({"status": status})).await.expect("takes it");
    }

    async fn lists(&self, node: &str) -> bool {
        let node = self.api.get("nodes", "", node).await.expect("is there");
        node.get(&["status", "volumesAttached"]).and_then(Value::as_array).is_some_and(|all| !all.is_empty())
    }

    async fn take_pod(&self, name: &str) {
        let at_once = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        self.api.delete("pods", "default", name, at_once).await.expect("takes it");
    }
}

#[actix::test]
async fn an_exclusive_volume_goes_from_node_to_node_and_is_on_one_at_a_time() {
    let world = World::new().await;
    world.attaches();
    for node in ["n1", "n2"] {
        world.node(node, 4).await;
    }
    world.exclusive_volume("pv").await;
    world.pod_on("n1", "a", "pv").await;
    eventually_async("it is asked for", async || world.attached_to().await == ["n1"]).await;
    world.attach_all().await;
    eventually_async("the node is told", async || world.lists("n1").await).await;
    world.node_status("n1", json!({"volumesInUse": [IN_USE]})).await;
    world.pod_on("n2", "b", "pv").await;
    let refused = "Multi-Attach error for volume \"pv\" Volume is already used by pod(s) a".to_owned();
    eventually_async("the pod is told why it waits", async || {
        world.events("default", "b").await.contains(&("FailedAttachVolume".into(), refused.clone()))
    })
    .await;
    world.take_pod("a").await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(world.attached_to().await, ["n1"], "its node has not let go of it");
    world.node_status("n1", json!({"volumesInUse": []})).await;
    eventually_async("the other node gets it", async || world.attached_to().await == ["n2"]).await;
    assert!(!world.lists("n1").await, "its node's status forgot it before");
    world.attach_all().await;
    eventually_async("the other node is told", async || world.lists("n2").await).await;
    eventually_async("its pod is told", async || world.events("default", "b").await.iter().any(|(reason, _)| reason == "SuccessfulAttachVolume"))
        .await;
    // A node that is out of service is not waited for.
    world.node_status("n2", json!({"volumesInUse": [IN_USE]})).await;
    world.take_pod("b").await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(world.attached_to().await, ["n2"]);
    let taint = json!({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]}});
    world.api.patch(world.api.target("nodes", "", "n2"), PatchType::Merge, taint).await.expect("takes it");
    eventually_async("it is taken from it", async || world.attached_to().await.is_empty()).await;
    let counted = |operation: &str| {
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        let labels = [("volume_plugin", "kubernetes.io/csi:d.example.com"), ("operation_name", operation), ("status", "success")];
        samples.value("storage_operation_duration_seconds_count", &labels).unwrap_or_default()
    };
    eventually("both came and went", || counted("volume_attach") >= 2.0 && counted("volume_detach") >= 2.0).await;
}

#[actix::test]
async fn a_class_of_attributes_stays_until_nobody_needs_it() {
    let world = World::new().await;
    world.start(crate::controllers::volume_attributes::VolumeAttributesProtection::new(&world.caches));
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "fast"}, "driverName": "d.example.com", "parameters": {"iops": "9"}});
    world.api.create(class).await;
    let finalizers = async || {
        let class = world.api.get("volumeattributesclasses.storage.k8s.io", "", "fast").await.ok()?;
        Some(class.get(&["metadata", "finalizers"]).cloned().unwrap_or_default())
    };
    eventually_async("it is protected", async || finalizers().await == Some(json!(["kubernetes.io/vac-protection"]))).await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeAttributesClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    world.api.create(claim).await;
    world.api.delete("volumeattributesclasses.storage.k8s.io", "", "fast", DeleteOptions::default()).await.expect("takes it");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(finalizers().await.is_some(), "a claim asks for it");
    world.api.delete("persistentvolumeclaims", "default", "c", DeleteOptions::default()).await.expect("takes it");
    eventually_async("it is gone", async || finalizers().await.is_none()).await;
}

use std::{
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::{
    service::PatchType,
    status::{Reason, Status},
};
use troupe_api_server::{
    admission::{Attributes, MutatingPlugin, Pipeline, Plugin},
    store::memory::MemoryStore,
};

use crate::apiserver::{
    ApiServerOptions,
    testing::{boot, boot_with},
};

fn pod(name: &str, namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "i"}], "initContainers": [{"name": "i", "image": "i"}]}})
}

#[actix::test]
async fn a_pod_gets_its_token_its_tolerations_and_its_priority() {
    let api = boot().await;
    let created = api.create(pod("p", "default")).await;
    assert_eq!(created.str(&["spec", "serviceAccountName"]), "default");
    let volume = &created.list(&["spec", "volumes"])[0];
    let name = volume["name"].as_str().expect("a name");
    assert!(name.starts_with("kube-api-access-") && name.len() == "kube-api-access-".len() + 5);
    assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
    for field in ["containers", "initContainers"] {
        let mount = &created.list(&["spec", field])[0]["volumeMounts"][0];
        assert_eq!((&mount["name"], &mount["mountPath"]), (&json!(name), &json!("/var/run/secrets/kubernetes.io/serviceaccount")));
    }
    let keys: Vec<_> = created.list(&["spec", "tolerations"]).iter().map(|toleration| toleration["key"].clone()).collect();
    assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert_eq!((created.int(&["spec", "priority"]), created.str(&["spec", "preemptionPolicy"])), (Some(0), "PreemptLowerPriority"));
}

#[actix::test]
async fn a_pod_without_its_service_account_is_forbidden() {
    let api = boot().await;
    let mut wanted = pod("p", "default");
    wanted["spec"]["serviceAccountName"] = json!("missing");
    let status = api.try_create(wanted).await.expect_err("is refused");
    assert_eq!(status.message, "pods \"p\" is forbidden: error looking up service account default/missing: serviceaccount \"missing\" not found");
}

#[actix::test]
async fn pods_of_an_account_that_enforces_it_use_only_the_secrets_that_it_lists() {
    let api = boot().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "held", "namespace": "default", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        "secrets": [{"name": "known"}], "imagePullSecrets": [{"name": "pull"}]});
    api.create(account).await;
    let with = |name: &str, part: Value| {
        let mut wanted = pod(name, "default");
        wanted["spec"]["serviceAccountName"] = json!("held");
        for (field, value) in part.as_object().expect("an object") {
            wanted["spec"][field] = value.clone();
        }
        wanted
    };
    let env =
        |secret: &str| json!([{"name": "c", "image": "i", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]}]);
    let from = json!([{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]);
    let volumes = |secret: &str| json!([{"name": "v", "secret": {"secretName": secret}}]);
    let not = "is not allowed because service account held does not reference that";
    for (part, why) in [
        (json!({"volumes": volumes("other")}), format!("volume with secret.secretName=\"other\" {not} secret")),
        (json!({"containers": env("other")}), format!("container c with envVar E referencing secret.secretName=\"other\" {not} secret")),
        (json!({"containers": from}), format!("container c with envFrom referencing secret.secretName=\"other\" {not} secret")),
        (json!({"initContainers": env("other")}), format!("init container c with envVar E referencing secret.secretName=\"other\" {not} secret")),
        (json!({"imagePullSecrets": [{"name": "other"}]}), format!("imagePullSecrets[0].name=\"other\" {not} imagePullSecret")),
    ] {
        let mut wanted = with("refused", part);
        if why.starts_with("init") {
            wanted["spec"]["initContainers"][0]["name"] = json!("c");
            wanted["spec"]["containers"][0]["name"] = json!("main");
        }
        let status = api.try_create(wanted).await.expect_err("is refused");
        assert_eq!(status.message, format!("pods \"refused\" is forbidden: {why}"));
    }
    let allowed = json!({"volumes": volumes("known"), "containers": env("known"), "imagePullSecrets": [{"name": "pull"}]});
    let mut running = api.create(with("allowed", allowed)).await;
    let ephemeral = |secret: &str| {
        let mut containers = env(secret);
        containers[0]["name"] = json!("debug");
        containers
    };
    running.set(&["spec", "ephemeralContainers"], ephemeral("other"));
    let target = || api.subresource("pods", "default", "allowed", "ephemeralcontainers");
    let status = api.try_update_at(target(), Value::Object(running.root().clone())).await.expect_err("is refused");
    let why = format!("ephemeral container debug with envVar E referencing secret.secretName=\"other\" {not} secret");
    assert_eq!(status.message, format!("pods \"allowed\" is forbidden: {why}"));
    running.set(&["spec", "ephemeralContainers"], ephemeral("known"));
    api.try_update_at(target(), Value::Object(running.root().clone())).await.expect("is taken");
}

#[actix::test]
async fn a_pod_waits_a_moment_for_the_default_account_of_a_new_namespace() {
    let api = boot().await;
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fresh"}})).await;
    let account = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        api.create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "fresh"}})).await
    };
    let (created, _) = futures::join!(api.create(pod("p", "fresh")), account);
    assert_eq!(created.str(&["spec", "serviceAccountName"]), "default");
}

#[actix::test]
async fn priority_classes_decide_the_priority_and_unknown_ones_are_refused() {
    let api = boot().await;
    api.create(json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000})).await;
    let mut wanted = pod("p", "default");
    wanted["spec"]["priorityClassName"] = json!("high");
    assert_eq!(api.create(wanted.clone()).await.int(&["spec", "priority"]), Some(1000));
    wanted["metadata"]["name"] = json!("q");
    wanted["spec"]["priorityClassName"] = json!("low");
    let status = api.try_create(wanted).await.expect_err("is refused");
    assert_eq!(status.message, "pods \"q\" is forbidden: no PriorityClass with name low was found");
}

#[actix::test]
async fn a_pod_replaced_by_its_manifest_keeps_its_priority() {
    let api = boot().await;
    api.create(json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "calm"}, "value": 7,
        "preemptionPolicy": "Never"}))
        .await;
    let mut wanted = pod("p", "default");
    wanted["spec"]["priorityClassName"] = json!("calm");
    let created = api.create(wanted).await;
    let mut manifest = Value::Object(created.root().clone());
    let spec = manifest["spec"].as_object_mut().expect("a spec");
    spec.remove("priority");
    spec.remove("preemptionPolicy");
    let replaced = api.try_update(manifest.clone()).await.expect("is replaced");
    assert_eq!((replaced.int(&["spec", "priority"]), replaced.str(&["spec", "preemptionPolicy"])), (Some(7), "Never"));
    manifest["spec"]["priority"] = json!(8);
    let status = api.try_update(manifest).await.expect_err("is refused");
    assert_eq!(status.reason, Reason::Invalid);
}

#[actix::test]
async fn nothing_is_created_in_a_namespace_that_is_missing_or_going_away() {
    let api = boot().await;
    let status = api.try_create(pod("p", "nowhere")).await.expect_err("is refused");
    assert_eq!((status.code, status.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "old"}, "spec": {"finalizers": ["kubernetes"]}})).await;
    api.delete("namespaces", "", "old", Default::default()).await.expect("begins");
    let status = api.try_create(pod("p", "old")).await.expect_err("is refused");
    assert_eq!(status.reason, Reason::Forbidden);
    assert_eq!(status.message, "pods \"p\" is forbidden: unable to create new content in namespace old because it is being terminated");
    assert_eq!(status.details.expect("details").causes[0].reason, "NamespaceTerminating");
}

#[actix::test]
async fn the_default_namespace_cannot_be_deleted() {
    let api = boot().await;
    let status = api.delete("namespaces", "", "default", Default::default()).await.expect_err("is refused");
    assert_eq!(status.message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}

#[actix::test]
async fn a_new_node_is_tainted_until_it_is_ready() {
    let api = boot().await;
    let node = api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})).await;
    assert_eq!(node.list(&["spec", "taints"])[0], json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
}

#[actix::test]
async fn a_claim_grows_only_when_it_is_bound_and_its_class_lets_it() {
    let api = boot().await;
    let class = |name: &str, expands: bool| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "p", "allowVolumeExpansion": expands})
    };
    api.create(class("fixed", false)).await;
    api.create(class("growing", true)).await;
    let bound = |class: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": class, "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let grow = async |class: &str| {
        let mut claim = api.get("persistentvolumeclaims", "default", class).await.expect("there");
        claim.set(&["spec", "resources", "requests", "storage"], "2Gi");
        api.try_update(Value::Object(claim.root().clone())).await.map(drop).map_err(|status| status.message)
    };
    for class in ["fixed", "growing"] {
        let mut claim = api.create(bound(class)).await;
        let unbound = format!("persistentvolumeclaims \"{class}\" is forbidden: Only bound persistent volume claims can be expanded");
        let refusal = grow(class).await.expect_err("is refused");
        assert!(refusal == unbound || refusal.contains("is invalid"), "{refusal}");
        claim.set(&["status", "phase"], "Bound");
        let status = api.subresource("persistentvolumeclaims", "default", class, "status");
        api.try_update_at(status, Value::Object(claim.root().clone())).await.expect("the status is written");
    }
    assert_eq!(grow("growing").await, Ok(()));
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    assert_eq!(grow("fixed").await, Err(format!("persistentvolumeclaims \"fixed\" is forbidden: {why}")));
}

/// Remembers on which threads pods are admitted.
#[derive(Clone, Default)]
struct Threads(Arc<Mutex<Vec<ThreadId>>>);

impl Plugin for Threads {
    fn name(&self) -> &'static str {
        "Threads"
    }
}

#[async_trait]
impl MutatingPlugin for Threads {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if request.is_main("", "pods") {
            self.0.lock().expect("no panic").push(thread::current().id());
        }
        Ok(())
    }
}

#[actix::test]
async fn a_small_pod_under_a_large_account_is_made_beside_the_event_loop() {
    let threads = Threads::default();
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.admission = Pipeline::standard().mutating(threads.clone());
    let api = boot_with(options).await;
    let secrets: Vec<_> = (0..10_000).map(|number| json!({"name": format!("secret-{number}")})).collect();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "large", "namespace": "default"},
        "secrets": secrets, "imagePullSecrets": [{"name": "one"}]});
    api.create(account).await;
    for (name, account) in [("a", "default"), ("b", "large")] {
        let mut wanted = pod(name, "default");
        wanted["spec"]["serviceAccountName"] = json!(account);
        let created = api.create(wanted).await;
        assert_eq!(created.list(&["spec", "imagePullSecrets"]).len(), usize::from(account == "large"));
    }
    for (name, account) in [("c", "default"), ("d", "large")] {
        let mut wanted = pod(name, "default");
        wanted["spec"]["serviceAccountName"] = json!(account);
        let created = api.patch(api.target("pods", "default", name), PatchType::Apply, wanted).await.expect("is applied");
        assert_eq!(created.list(&["spec", "imagePullSecrets"]).len(), usize::from(account == "large"));
    }
    let here = thread::current().id();
    let on_the_loop: Vec<bool> = threads.0.lock().expect("no panic").iter().map(|thread| *thread == here).collect();
    assert_eq!(on_the_loop, [true, false, true, false]);
}

//! Images that others pulled, with a kubelet on the fake runtime.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::stage::Stage;
use crate::kubelet::{credentials::provider::ProviderFiles, pull_records::Policy};

const IMAGE: &str = "registry.example/team/a:1";

fn running(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

fn waits_for(pod: &Pod, reason: &str) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let waiting = containers.and_then(|containers| containers.first()?.state.as_ref()?.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
}

async fn create(stage: &Stage, name: &str, image: &str, policy: &str, secrets: &[&str]) {
    let secrets: Vec<_> = secrets.iter().map(|secret| json!({"name": secret})).collect();
    let containers = json!([{"name": "c", "image": image, "imagePullPolicy": policy}]);
    stage.create(name, json!({"imagePullSecrets": secrets, "containers": containers})).await;
}

async fn secret(stage: &Stage, name: &str, password: &str) {
    let config = json!({"auths": {"registry.example": {"username": "me", "password": password}}}).to_string();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config}});
    stage.api.create(secret).await;
}

fn pulls(stage: &Stage) -> usize {
    stage.runtime.calls().iter().filter(|call| call.starts_with("pull_image")).count()
}

#[actix::test]
async fn an_image_that_a_secret_pulled_is_for_who_has_it() {
    let stage = Stage::new().await;
    stage.runtime.offer_private_image(IMAGE, "p");
    for (name, password) in [("right", "p"), ("same", "p"), ("wrong", "q")] {
        secret(&stage, name, password).await;
    }
    let (kubelet, system) = stage.kubelet(|_| ()).await;
    create(&stage, "first", IMAGE, "IfNotPresent", &["wrong", "right"]).await;
    stage.until("first", "running", running).await;
    create(&stage, "local", "web", "Never", &[]).await;
    stage.until("local", "running", running).await;
    create(&stage, "stranger", IMAGE, "Never", &["wrong"]).await;
    let refused = stage.until("stranger", "refused", |pod| waits_for(pod, "ErrImageNeverPull")).await;
    let text = format!("{:?}", refused.status);
    assert!(text.contains("is not present with pull policy of Never"), "{text}");
    drop(kubelet);
    assert!(system.shutdown(Duration::from_secs(5)).await);
    let (_kubelet, _system) = stage.kubelet(|_| ()).await;
    let before = pulls(&stage);
    create(&stage, "friend", IMAGE, "Never", &["same"]).await;
    stage.until("friend", "running", running).await;
    assert_eq!(pulls(&stage), before, "the same credential in another secret will do");
    create(&stage, "nobody", IMAGE, "IfNotPresent", &[]).await;
    stage.until("nobody", "refused by the registry", |pod| waits_for(pod, "ErrImagePull") || waits_for(pod, "ImagePullBackOff")).await;
    assert!(pulls(&stage) > before, "the registry was asked");
}

#[actix::test]
async fn without_verification_all_use_all_images() {
    let stage = Stage::new().await;
    stage.runtime.offer_private_image(IMAGE, "p");
    secret(&stage, "right", "p").await;
    let (_kubelet, _system) = stage.kubelet(|options| options.pull_verification.policy = Policy::NeverVerify).await;
    create(&stage, "first", IMAGE, "IfNotPresent", &["right"]).await;
    stage.until("first", "running", running).await;
    create(&stage, "other", IMAGE, "Never", &[]).await;
    stage.until("other", "running", running).await;
}

#[actix::test]
async fn a_credential_provider_of_the_node_lets_its_pods_pull() {
    let stage = Stage::new().await;
    stage.runtime.offer_private_image(IMAGE, "p");
    let config = stage.place.path().join("providers.json");
    let script = "cat >&2; echo '{\"kind\": \"CredentialProviderResponse\", \"apiVersion\": \"credentialprovider.kubelet.k8s.io/v1\", \
        \"cacheKeyType\": \"Registry\", \"auth\": {\"registry.example\": {\"username\": \"me\", \"password\": \"p\"}}}'";
    let providers = json!({"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [{"name": "sh",
        "matchImages": ["*.example/team"], "defaultCacheDuration": "1m", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "args": ["-c", script]}]});
    std::fs::write(&config, providers.to_string()).expect("writes");
    let files = ProviderFiles { config, bin_dir: "/bin".into() };
    let (_kubelet, _system) = stage.kubelet(|options| options.credential_providers = Some(files)).await;
    create(&stage, "first", IMAGE, "IfNotPresent", &[]).await;
    stage.until("first", "running", running).await;
    create(&stage, "other", IMAGE, "Never", &[]).await;
    stage.until("other", "running", running).await;
}

#[actix::test]
async fn an_image_that_is_mounted_is_pulled_for_the_container_and_noted() {
    let stage = Stage::new().await;
    stage.runtime.offer_image("data:1");
    let _kubelet = stage.kubelet(|_| ()).await;
    let mounts = json!([{"name": "v", "mountPath": "/v", "subPath": "a"}]);
    let container = json!({"name": "c", "image": "web", "imagePullPolicy": "Never", "volumeMounts": mounts});
    let volumes = json!([{"name": "v", "image": {"reference": "data:1"}}]);
    stage.create("web", json!({"volumes": volumes, "containers": [container]})).await;
    stage.until("web", "running", running).await;
    assert_eq!(pulls(&stage), 1);
    let made = stage.runtime.container_named("c").expect("a container").config;
    let mount = made.mounts.iter().find(|mount| mount.container_path == "/v").expect("a mount");
    let id = mount.image.as_ref().map(|image| image.image.clone()).expect("an image");
    assert!(id.starts_with("sha256:") && mount.image_sub_path == "a" && mount.readonly, "{mount:?}");
    assert_eq!(made.annotations["io.kubernetes.container.imageVolumes"], json!([id]).to_string());
}

//! Requests for certificates of pods (KEP-4317) that a node makes, and what it makes of the answers.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, Node, ServiceAccount};
use serde_json::json;
use troupe_api::{
    certificates::SigningRequest,
    features::FeatureGates,
    resources::{builtin, optional},
    service::{ListOptions, PatchType},
};
use troupe_api_server::store::memory::MemoryStore;
use troupe_cri::FakeRuntime;

use super::stage::Stage;
use crate::apiserver::{
    ApiServerOptions,
    testing::{boot_with, eventually},
};

const REQUESTS: &str = "podcertificaterequests.certificates.k8s.io";

#[actix::test]
async fn a_node_asks_for_what_its_pods_volumes_want_and_tells_of_a_denial() {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.features = FeatureGates::parse(&["PodCertificateRequest=true".to_owned()]).expect("there is such a feature");
    options.resources = builtin().into_iter().chain(optional(|feature| feature == "PodCertificateRequest")).collect();
    let runtime = Arc::new(FakeRuntime::with_images(&["web:latest"]));
    let stage = Stage { api: boot_with(options).await, runtime, place: tempfile::tempdir().expect("a directory") };
    let (_kubelet, _system) = stage.kubelet(|options| options.pod_certificates = true).await;
    let wanted = json!({"signerName": "example.com/signer", "keyType": "ED25519", "maxExpirationSeconds": 7200, "credentialBundlePath": "b.pem",
        "userAnnotations": {"example.com/name": "web"}});
    let volume = json!({"name": "v", "projected": {"sources": [{"podCertificate": wanted}]}});
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    stage
        .create("p", json!({"volumes": [volume], "containers": [{"name": "c", "image": "web", "imagePullPolicy": "Never", "volumeMounts": mounts}]}))
        .await;
    eventually("a request is made", async || !stage.api.names(REQUESTS, "default").await.is_empty()).await;
    let names = stage.api.names(REQUESTS, "default").await;
    assert!(names.len() == 1 && names[0].starts_with("req-"), "{names:?}");
    let made = stage.api.get(REQUESTS, "default", &names[0]).await.expect("is there");
    let pod = stage.api.get("pods", "default", "p").await.expect("is there");
    let account = stage.api.client.namespaced::<ServiceAccount>("default").get("default").await.expect("is there");
    let node = stage.api.client.all::<Node>().get("n1").await.expect("is there");
    let request = made.str(&["spec", "stubPKCS10Request"]).to_owned();
    let expected = json!({"signerName": "example.com/signer", "podName": "p", "podUID": pod.str(&["metadata", "uid"]), "serviceAccountName": "default",
        "serviceAccountUID": account.metadata.uid, "nodeName": "n1", "nodeUID": node.metadata.uid, "maxExpirationSeconds": 7200,
        "stubPKCS10Request": request, "unverifiedUserAnnotations": {"example.com/name": "web"}});
    let mut spec = made.get(&["spec"]).cloned().expect("a spec");
    spec.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    assert_eq!(spec, expected);
    assert_eq!(made.list(&["metadata", "ownerReferences"])[0]["uid"], pod.str(&["metadata", "uid"]));
    let der = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &request).expect("base64");
    SigningRequest::from_der(der).expect("a request").verify().expect("its own key signed it");

    let denied = json!({"status": {"conditions": [{"type": "Denied", "status": "True", "reason": "Unknown", "message": "who is that",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let status = stage.api.subresource(REQUESTS, "default", &names[0], "status");
    stage.api.patch(status, PatchType::Merge, denied).await.expect("is told");
    let told = format!("PodCertificateRequest default/{} was denied, reason=\"Unknown\", message=\"who is that\"", names[0]);
    let events = stage.api.client.namespaced::<Event>("default");
    eventually("an event tells of it", async || {
        let all = events.list(ListOptions::default()).await.expect("answers").items;
        all.iter().any(|event| event.reason.as_deref() == Some("Denied") && event.message.as_deref() == Some(&*told))
    })
    .await;
    let why = "MountVolume.SetUp failed for volume \"v\" : PodCertificateRequest was permanently denied: reason=\"Unknown\" message=\"who is that\"";
    eventually("the pod waits for its volume", async || {
        let all = events.list(ListOptions::default()).await.expect("answers").items;
        all.iter().any(|event| event.reason.as_deref() == Some("FailedMount") && event.message.as_deref() == Some(why))
    })
    .await;
    assert_eq!(stage.api.names(REQUESTS, "default").await, names, "nobody is asked again");
}

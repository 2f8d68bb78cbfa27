use std::sync::Arc;

use serde_json::json;
use troupe_api::{auth::pki::Pki, service::PatchType};
use troupe_api_server::store::{Store, memory::MemoryStore};

use super::{
    super::edge::door::Door,
    extension::{becomes, reason},
};
use crate::apiserver::{
    ApiServerOptions, Bootstrap, Trust,
    testing::{TestApi, boot, boot_with, eventually},
};

const SERVICES: &str = "apiservices.apiregistration.k8s.io";

async fn started() -> TestApi {
    let api = boot().await;
    api.server.bootstrap(&Bootstrap::default()).await.expect("bootstraps");
    api
}

#[actix::test]
async fn groups_of_definitions_have_api_services_for_as_long_as_they_are_served() {
    let api = started().await;
    becomes(&api, "v1.apps", "Local").await;
    assert_eq!(
        api.get(SERVICES, "", "v1.apps").await.expect("is there").str(&["metadata", "labels", "kube-aggregator.kubernetes.io/automanaged"]),
        "onstart"
    );
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let versions = json!([{"name": "v1", "served": true, "storage": true, "schema": schema}, {"name": "v2", "served": false, "storage": false, "schema": schema}]);
    api.create(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions}}))
        .await;
    becomes(&api, "v1.example.com", "Local").await;
    let made = api.get(SERVICES, "", "v1.example.com").await.expect("is there");
    assert_eq!(made.get(&["spec"]), Some(&json!({"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100})));
    assert_eq!(reason(&api, "v2.example.com").await, "");
    // What is kept comes back, and says what it should.
    api.delete(SERVICES, "", "v1.example.com", Default::default()).await.expect("goes");
    becomes(&api, "v1.example.com", "Local").await;
    api.patch(api.target(SERVICES, "", "v1.example.com"), PatchType::Merge, json!({"spec": {"versionPriority": 7}})).await.expect("is patched");
    eventually("it is put right", async || {
        api.get(SERVICES, "", "v1.example.com").await.is_ok_and(|found| found.int(&["spec", "versionPriority"]) == Some(100))
    })
    .await;
    api.delete("customresourcedefinitions.apiextensions.k8s.io", "", "widgets.example.com", Default::default()).await.expect("goes");
    eventually("it goes with the definition", async || api.get(SERVICES, "", "v1.example.com").await.is_err()).await;
}

#[actix::test]
async fn built_in_groups_are_told_at_the_start_and_then_left_to_people() {
    let api = started().await;
    becomes(&api, "v1.batch", "Local").await;
    api.delete(SERVICES, "", "v1.batch", Default::default()).await.expect("goes");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(reason(&api, "v1.batch").await, "", "nobody makes it again");
    api.server.bootstrap(&Bootstrap::default()).await.expect("starts again");
    becomes(&api, "v1.batch", "Local").await;
}

#[actix::test]
async fn the_group_of_api_services_is_answered_here_whatever_an_object_says() {
    const NAME: &str = "v1.apiregistration.k8s.io";
    let of = |version: &str| {
        let service = json!({"namespace": "default", "name": "elsewhere", "port": 443});
        let spec = json!({"group": "apiregistration.k8s.io", "version": version, "service": service, "insecureSkipTLSVerify": true,
            "groupPriorityMinimum": 1000, "versionPriority": 15});
        let metadata = json!({"name": format!("{version}.apiregistration.k8s.io"), "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"});
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": spec})
    };
    // One that an older server let pass.
    let store = Arc::new(MemoryStore::new());
    let key = format!("/registry/apiregistration.k8s.io/apiservices/{NAME}");
    store.create(key.into(), of("v1").to_string().into(), None).await.expect("writes");
    let api = boot_with(ApiServerOptions::new(store)).await;
    becomes(&api, NAME, "Local").await;
    let refused = api.try_create(of("v2")).await.expect_err("is always served here");
    assert_eq!(refused.code, 422);
    assert!(refused.message.contains("spec.service: Forbidden"), "{}", refused.message);
    let mut door = Door::open_to(api).await;
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{NAME}");
    assert_eq!(door.get("/apis/apiregistration.k8s.io/v1").await.json()["resources"][0]["name"], "apiservices");
    assert_eq!(door.get(&path).await.json()["metadata"]["name"], NAME);
    assert_eq!(door.send("DELETE", &path, &[], "").await.status, 200);
    assert_eq!(door.get(&path).await.status, 404);
    door.close().await;
}

#[actix::test]
async fn extension_servers_are_told_whom_to_believe() {
    let dir = tempfile::tempdir().expect("a directory");
    let (clients, proxies) = (Pki::open(dir.path()).expect("a CA"), Pki::open_front_proxy(dir.path()).expect("a CA"));
    let api = boot().await;
    let trust = Trust { client_ca: Some(clients.ca_pem().to_owned()), proxy_ca: Some(proxies.ca_pem().to_owned()) };
    api.server.bootstrap(&Bootstrap { trust, ..Bootstrap::default() }).await.expect("bootstraps");
    let map = api.get("configmaps", "kube-system", "extension-apiserver-authentication").await.expect("is there");
    assert_eq!(
        map.get(&["data"]),
        Some(&json!({
            "client-ca-file": clients.ca_pem(),
            "requestheader-client-ca-file": proxies.ca_pem(),
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        }))
    );
}

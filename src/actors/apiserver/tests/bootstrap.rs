use std::{sync::Arc, time::Duration};

use serde_json::json;
use troupe_api::service::PatchType;
use troupe_api_server::store::{Store, keys, memory::MemoryStore};

use crate::apiserver::{
    ApiServerOptions, Bootstrap, Trust,
    testing::{TestApi, boot, boot_with},
};

fn wanted() -> Bootstrap {
    Bootstrap {
        advertise: Some(("192.0.2.1".parse().expect("an address"), 6443)),
        trust: Trust { client_ca: Some("pem".into()), proxy_ca: None },
        objects: troupe_api::auth::bootstrap::objects(),
    }
}

#[actix::test]
async fn after_the_first_start_everything_is_there_and_a_second_changes_nothing() {
    let api = boot().await;
    api.server.bootstrap(&wanted()).await.expect("bootstraps");
    assert_eq!(api.names("namespaces", "").await, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    assert_eq!(api.names("priorityclasses.scheduling.k8s.io", "").await, ["system-cluster-critical", "system-node-critical"]);
    let service = api.get("services", "default", "kubernetes").await.expect("is there");
    assert_eq!(service.str(&["spec", "clusterIP"]), "10.96.0.1");
    assert_eq!(api.names("ipaddresses.networking.k8s.io", "").await, ["10.96.0.1"]);
    let slice = api.get("endpointslices.discovery.k8s.io", "default", "kubernetes").await.expect("is there");
    assert_eq!(slice.list(&["endpoints"])[0]["addresses"][0], "192.0.2.1");
    assert!(api.get("clusterroles.rbac.authorization.k8s.io", "", "cluster-admin").await.is_ok());
    assert!(api.get("configmaps", "kube-system", "extension-apiserver-authentication").await.is_ok());
    let apps = api.get("apiservices.apiregistration.k8s.io", "", "v1.apps").await.expect("is there");
    assert_eq!(apps.list(&["status", "conditions"])[0]["reason"], "Local");
    assert!(api.get("configmaps", "kube-system", "kube-apiserver-legacy-service-account-token-tracking").await.is_ok());
    let before = api.get("endpoints", "default", "kubernetes").await.expect("is there");
    api.server.bootstrap(&wanted()).await.expect("bootstraps again");
    assert_eq!(api.get("endpoints", "default", "kubernetes").await.expect("is there"), before);
}

/// The manifest of a metrics server brings this role along.
#[actix::test]
async fn a_metrics_servers_role_is_applied_without_a_conflict() {
    let api = boot().await;
    api.server.bootstrap(&wanted()).await.expect("bootstraps");
    let name = "system:aggregated-metrics-reader";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {"k8s-app": "metrics-server"}},
        "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}]});
    let applied = api.patch(api.target("clusterroles.rbac.authorization.k8s.io", "", name), PatchType::Apply, role).await.expect("no conflict");
    assert_eq!(applied.str(&["metadata", "labels", "k8s-app"]), "metrics-server");
}

async fn advertised(api: &TestApi) -> Vec<String> {
    let endpoints = api.get("endpoints", "default", "kubernetes").await.expect("is there");
    let slice = api.get("endpointslices.discovery.k8s.io", "default", "kubernetes").await.expect("is there");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let addresses = endpoints.list(&["subsets"])[0]["addresses"].as_array().expect("addresses");
    let addresses: Vec<_> = addresses.iter().map(|address| text(&address["ip"])).collect();
    let sliced: Vec<_> = slice.list(&["endpoints"]).iter().map(|endpoint| text(&endpoint["addresses"][0])).collect();
    assert_eq!(addresses, sliced);
    addresses
}

fn at(address: &str) -> Bootstrap {
    Bootstrap { advertise: Some((address.parse().expect("an address"), 6443)), ..Bootstrap::default() }
}

#[actix::test]
async fn a_new_address_of_the_server_reaches_its_endpoints() {
    let api = boot().await;
    api.server.bootstrap(&wanted()).await.expect("bootstraps");
    api.server.withdraw("192.0.2.1".parse().expect("an address"), 6443).await.expect("withdraws");
    api.server.bootstrap(&at("192.0.2.9")).await.expect("bootstraps again");
    assert_eq!(advertised(&api).await, ["192.0.2.9"]);
}

#[actix::test]
async fn whoever_advertises_a_server_makes_its_service_anew() {
    let api = boot().await;
    api.server.bootstrap(&wanted()).await.expect("bootstraps");
    api.delete("services", "default", "kubernetes", Default::default()).await.expect("deleted");
    api.server.bootstrap(&at("192.0.2.1")).await.expect("bootstraps again");
    let service = api.get("services", "default", "kubernetes").await.expect("is there again");
    assert_eq!(service.str(&["spec", "clusterIP"]), "10.96.0.1");
}

#[actix::test]
async fn all_servers_that_live_are_named_and_no_other() {
    let store = Arc::new(MemoryStore::new());
    let api = boot_with(ApiServerOptions::new(store.clone())).await;
    let other = boot_with(ApiServerOptions::new(store.clone())).await;
    api.server.bootstrap(&at("192.0.2.10")).await.expect("bootstraps");
    other.server.bootstrap(&at("192.0.2.9")).await.expect("bootstraps");
    assert_eq!(advertised(&api).await, ["192.0.2.9", "192.0.2.10"]);
    // The lease of a server that was killed runs out.
    let killed = keys::server_lease("192.0.2.11".parse().expect("an address"));
    store.create(killed.clone(), "{}".into(), Some(Duration::from_secs(1))).await.expect("writes");
    api.server.bootstrap(&at("192.0.2.10")).await.expect("bootstraps again");
    assert_eq!(advertised(&other).await, ["192.0.2.9", "192.0.2.10", "192.0.2.11"]);
    while store.get(&killed, None).await.expect("reads").0.is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    other.server.withdraw("192.0.2.9".parse().expect("an address"), 6443).await.expect("withdraws");
    assert_eq!(advertised(&api).await, ["192.0.2.10"]);
}

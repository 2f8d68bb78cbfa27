use crate::apiserver::{Bootstrap, testing::boot};

fn wanted() -> Bootstrap {
    Bootstrap {
        advertise: Some(("192.0.2.1".parse().expect("an address"), 6443)),
        client_ca: Some("pem".into()),
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

#[actix::test]
async fn a_new_address_of_the_server_reaches_its_endpoints() {
    let api = boot().await;
    api.server.bootstrap(&wanted()).await.expect("bootstraps");
    let moved = Bootstrap { advertise: Some(("192.0.2.9".parse().expect("an address"), 6443)), ..Bootstrap::default() };
    api.server.bootstrap(&moved).await.expect("bootstraps again");
    let endpoints = api.get("endpoints", "default", "kubernetes").await.expect("is there");
    assert_eq!(endpoints.list(&["subsets"])[0]["addresses"][0]["ip"], "192.0.2.9");
}

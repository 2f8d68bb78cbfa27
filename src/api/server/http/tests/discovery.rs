//! Discovery over HTTP; the documents' content is the resource table's.

use serde_json::json;

use super::{client::Door, fake::FakeService};

#[actix_web::test]
async fn legacy_discovery_lists_groups_versions_and_resources() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let api = admin.get("/api").await.json();
    assert_eq!((&api["kind"], &api["versions"]), (&json!("APIVersions"), &json!(["v1"])));
    let apps = admin.get("/apis/apps").await.json();
    assert_eq!(apps["preferredVersion"], json!({"groupVersion": "apps/v1", "version": "v1"}));
    let list = admin.get("/apis/apps/v1").await.json();
    let named = |name: &str| list["resources"].as_array().expect("a list").iter().find(|resource| resource["name"] == name).cloned();
    assert_eq!(named("controllerrevisions").expect("served")["storageVersionHash"], "85nkx63pcBU=");
    let scale = named("deployments/scale").expect("served");
    assert_eq!((&scale["group"], &scale["version"], &scale["kind"]), (&json!("autoscaling"), &json!("v1"), &json!("Scale")));
    assert!(named("deployments/status").expect("served").get("group").is_none());
    assert_eq!(admin.get("/apis/nonsense/v1").await.status, 404);
}

/// The hashes are those of upstream's v1.36, which stores these in v1beta1.
#[actix_web::test]
async fn hashes_of_stored_versions_are_upstreams() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    for (path, name, hash) in [
        ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", "jfWCUB31mvA="),
        ("/apis/admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", "LYmCf+UMVdg="),
        ("/apis/admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings", "90V5FRZZ3Zg="),
        ("/apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "6OxvlMmQ6is="),
        ("/apis/events.k8s.io/v1", "events", "r2yiGXH7wu8="),
    ] {
        let list = admin.get(path).await.json();
        let row = list["resources"].as_array().expect("a list").iter().find(|resource| resource["name"] == name);
        assert_eq!(row.expect("served")["storageVersionHash"], hash, "{name}");
    }
}

#[actix_web::test]
async fn aggregated_discovery_is_told_once() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let reply = admin.send("GET", "/apis", &[("accept", accept)], "").await;
    assert_eq!(reply.header("content-type"), "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    assert_eq!(reply.json()["kind"], "APIGroupDiscoveryList");
    let etag = reply.header("etag").to_owned();
    let again = admin.send("GET", "/apis", &[("accept", accept), ("if-none-match", &etag)], "").await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    let core = admin.send("GET", "/api", &[("accept", accept)], "").await.json();
    assert_eq!(core["items"][0]["versions"][0]["version"], "v1");
    assert_eq!(admin.send("GET", "/apis", &[("accept", "application/json")], "").await.json()["kind"], "APIGroupList");
}

#[actix_web::test]
async fn openapi_documents_are_cached_by_hash() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let index = admin.get("/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("listed").to_owned();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    let document = admin.get(&url).await;
    assert_eq!(document.header("cache-control"), "public, immutable");
    assert_eq!(document.json()["openapi"], "3.0.0");
    let etag = document.header("etag").to_owned();
    assert_eq!(admin.send("GET", &url, &[("if-none-match", &etag)], "").await.status, 304);
    let stale = admin.get("/openapi/v3/apis/apps/v1?hash=OLD").await;
    assert_eq!((stale.status.as_u16(), stale.header("location")), (301, url.as_str()));
    assert_eq!(admin.get("/openapi/v3/apis/nonsense/v1").await.status, 404);
}

#[actix_web::test]
async fn the_old_openapi_document_comes_as_json_or_as_a_message() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let reply = admin.get("/openapi/v2").await;
    let document = reply.json();
    assert_eq!((reply.header("content-type"), &document["swagger"]), ("application/json", &json!("2.0")));
    let deployment = &document["definitions"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([{"group": "apps", "version": "v1", "kind": "Deployment"}]));
    assert_eq!(deployment["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    let port = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!((&port["x-kubernetes-patch-merge-key"], &port["type"]), (&json!("name"), &json!("array")));
    let create = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"];
    assert_eq!(
        (&create["parameters"][0]["in"], &create["responses"]["201"]["schema"]["$ref"]),
        (&json!("body"), &json!("#/definitions/io.k8s.api.apps.v1.Deployment"))
    );
    let options = &document["definitions"]["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]["x-kubernetes-group-version-kind"];
    assert!(options.as_array().is_some_and(|kinds| kinds.len() > 10), "{options}");
    const MESSAGE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let message = admin.send("GET", "/openapi/v2", &[("accept", MESSAGE)], "").await;
    assert_eq!((message.header("content-type"), &message.body[..5]), (MESSAGE, &b"\x0a\x032.0"[..]));
    let etag = message.header("etag").to_owned();
    assert_eq!(admin.send("GET", "/openapi/v2", &[("accept", MESSAGE), ("if-none-match", &etag)], "").await.status, 304);
    assert_eq!(admin.send("GET", "/openapi/v2", &[("accept", "text/html")], "").await.status, 406);
}

//! Discovery over HTTP; the documents' content is the resource table's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use troupe_api::{meta::GroupVersion, resources::Registry};

use super::{
    client::{Connection, Door},
    fake::FakeService,
};
use crate::{
    http::{HealthCheck, HealthGroups},
    openapi::OpenApiSource,
};

async fn text(connection: &mut Connection, path: &str) -> String {
    String::from_utf8(connection.get(path).await.body.to_vec()).expect("UTF-8")
}

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

/// Who compares texts finds keys where upstream's servers write them.
#[actix_web::test]
async fn documents_read_as_upstreams_do() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let apps = text(&mut admin, "/openapi/v3/apis/apps/v1").await;
    let begins = r##"{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"1.36"},"paths":{"/apis/apps/v1/":{"get":{"tags":["apps_v1"],"description":"get available resources","operationId":"getAppsV1APIResources","responses":{"200":{"description":"OK","content":{"application/json":{"schema":{"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList"}},"application/vnd.kubernetes.protobuf":"##;
    assert!(apps.starts_with(begins), "{}", &apps[..1000]);
    let ends =
        r#""securitySchemes":{"BearerToken":{"type":"apiKey","description":"Bearer Token authentication","name":"authorization","in":"header"}}}}"#;
    assert!(apps.ends_with(ends), "{}", &apps[apps.len() - 1000..]);
    for part in [
        r#""/apis/apps/v1/watch/namespaces/{namespace}/deployments":{"get":{"tags":["apps_v1"],"description":"watch individual changes to a list of Deployment. deprecated: use the 'watch' parameter with a list operation instead.","operationId":"watchAppsV1NamespacedDeploymentList","responses":{"200":"#,
        r#""x-kubernetes-action":"watchlist","x-kubernetes-group-version-kind":{"group":"apps","version":"v1","kind":"Deployment"}},"parameters":[{"name":"allowWatchBookmarks","in":"query","description":"#,
        r#""requestBody":{"content":{"application/apply-patch+yaml":"#,
        r#"{"name":"namespace","in":"path","description":"object name and auth scope, such as for teams and projects","required":true,"schema":{"type":"string","uniqueItems":true}}"#,
        r#""type":"object","required":["revision"],"properties":{"apiVersion":{"description":"#,
        r#""revision":{"description":"Revision indicates the revision of the state represented by Data.","type":"integer","format":"int64","default":0}},"x-kubernetes-group-version-kind":[{"group":"apps","kind":"ControllerRevision","version":"v1"}]}"#,
    ] {
        assert!(apps.contains(part), "{part}");
    }
    let group = text(&mut admin, "/openapi/v3/apis/apps").await;
    assert!(
        group.contains(r#""/apis/apps/":{"get":{"tags":["apps"],"description":"get information of a group","operationId":"getAppsAPIGroup","#),
        "{group}"
    );
    let all = text(&mut admin, "/openapi/v2").await;
    assert!(
        all.starts_with(r#"{"swagger":"2.0","info":{"title":"Kubernetes","version":"1.36"},"paths":{"/.well-known/openid-configuration/":{"get":"#)
    );
    for part in [
        r#""/apis/apps/":{"get":{"description":"get information of a group","consumes":["application/json","application/yaml","application/vnd.kubernetes.protobuf"],"produces":["application/json","application/yaml","application/vnd.kubernetes.protobuf"],"schemes":["https"],"tags":["apps"],"operationId":"getAppsAPIGroup","#,
        r##"{"$ref":"#/parameters/namespace-vgWSWtn3"}"##,
        r#""namespace-vgWSWtn3":{"uniqueItems":true,"type":"string","description":"object name"#,
    ] {
        assert!(all.contains(part), "{part}");
    }
}

#[actix_web::test]
async fn the_index_has_documents_that_are_of_no_version() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let index = admin.get("/openapi/v3").await.json();
    for path in [".well-known/openid-configuration", "api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "openid/v1/jwks", "version"] {
        let url = index["paths"][path]["serverRelativeURL"].as_str().unwrap_or_else(|| panic!("{path} is not listed")).to_owned();
        let document = admin.get(&url).await;
        assert_eq!((document.status.as_u16(), document.header("cache-control")), (200, "public, immutable"), "{url}");
        assert!(document.json()["paths"].get(format!("/{path}/")).is_some(), "{path}");
    }
    assert_eq!(admin.get("/openapi/v3/apis/nonsense").await.status, 404);
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

/// Counts what it is asked for.
struct Counting(Arc<AtomicUsize>);

impl OpenApiSource for Counting {
    fn document(&self, _: &Registry, _: &GroupVersion) -> Option<Bytes> {
        self.0.fetch_add(1, Ordering::SeqCst);
        None
    }
}

async fn until(holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to that");
}

#[actix_web::test]
async fn documents_are_made_once_the_server_is_ready_and_before_anybody_asks() {
    let (asked, ready) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (looks, is_ready) = (Arc::new(AtomicUsize::new(0)), ready.clone());
    let check = {
        let looks = looks.clone();
        move || {
            looks.fetch_add(1, Ordering::SeqCst);
            std::future::ready(if is_ready.load(Ordering::SeqCst) { Ok(()) } else { Err("not yet".to_owned()) })
        }
    };
    let source = Arc::new(Counting(asked.clone()));
    let door = Door::open(FakeService::new(), |options| {
        options.openapi_ahead = true;
        options.openapi = Some(source);
        options.health = vec![HealthCheck::new("late", HealthGroups::READY_ONLY, check)];
    });
    until(|| looks.load(Ordering::SeqCst) > 0).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "what makes it ready comes first");
    ready.store(true, Ordering::SeqCst);
    until(|| asked.load(Ordering::SeqCst) > 0).await;
    let mut admin = door.connect(true).await;
    assert_eq!(admin.get("/openapi/v3").await.json(), json!({"paths": {}}));
    let first = asked.load(Ordering::SeqCst);
    admin.get("/openapi/v3").await;
    assert_eq!(asked.load(Ordering::SeqCst), first);
    door.handle.stop().await;
}

//! Forms of replies, and the documents that tell what is served.

use serde_json::{Value, json};

use super::door::Door;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

#[actix::test]
async fn what_has_no_table_is_not_shown_as_one() {
    let mut door = Door::open().await;
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}).to_string();
    for path in ["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/apis/authentication.k8s.io/v1/selfsubjectreviews"] {
        let refused = door.send("POST", path, &[("accept", TABLE)], review.clone()).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["reason"]), (406, &json!("NotAcceptable")), "{path}");
        // What is refused then is refused as itself: nobody answers reviews here.
        let either = door.send("POST", path, &[("accept", &format!("{TABLE},application/json"))], review.clone()).await;
        assert_ne!(either.status, 406, "{path}");
    }
    door.close().await;
}

#[actix::test]
async fn a_scale_is_shown_with_its_replicas() {
    let mut door = Door::open().await;
    let labels = json!({"a": "b"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let created = door.send("POST", path, &[], deployment.to_string()).await;
    assert_eq!(created.status.as_u16(), 201, "{:?}", created.body);
    let table = door.send("GET", &format!("{path}/d/scale"), &[("accept", TABLE)], "").await.json();
    let columns = table["columnDefinitions"].as_array().expect("columns").iter().map(|column| column["name"].clone());
    assert_eq!(columns.collect::<Vec<_>>(), ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().expect("cells")[..3], [json!("d"), json!(3), json!(0)]);
    door.close().await;
}

/// The keys of the objects in a text, in their order, as far as it is JSON.
fn keys(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let parts: Vec<&str> = text.split('"').collect();
    parts.windows(2).filter(|pair| pair[1].starts_with(':')).map(|pair| pair[0].to_owned()).collect()
}

#[actix::test]
async fn documents_keep_the_order_of_upstreams_types() {
    let mut door = Door::open().await;
    assert!(door.get("/api").await.body.starts_with(br#"{"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[{"clientCIDR":"#));
    let head = br#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"bindings","singularName":"binding","namespaced":true,"kind":"Binding","verbs":["create"]},"#;
    assert!(door.get("/api/v1").await.body.starts_with(head));
    let maps = r#"{"name":"configmaps","singularName":"configmap","namespaced":true,"kind":"ConfigMap","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["cm"],"storageVersionHash":"qFsyl6wFWjQ="}"#;
    let listed = door.get("/api/v1").await.body;
    assert!(String::from_utf8_lossy(&listed).contains(maps), "{listed:?}");
    let group = br#"{"kind":"APIGroup","apiVersion":"v1","name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}"#;
    assert_eq!(door.get("/apis/apps").await.body[..], group[..]);
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let aggregated = door.send("GET", "/apis", &accept, "").await.body;
    let first = ["kind", "apiVersion", "metadata", "items", "metadata", "name", "versions", "version", "resources", "resource", "responseKind"];
    assert_eq!(keys(&aggregated)[..first.len()], first);
    let version = door.get("/version").await.body;
    let emulated = ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];
    let built = ["gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
    assert_eq!(keys(&version), [&["major", "minor"][..], &emulated, &built].concat());
    let missing = door.get("/api/v1/namespaces/default/configmaps/none").await.body;
    let text = br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"configmaps \"none\" not found","reason":"NotFound","details":{"name":"none","kind":"configmaps"},"code":404}"#;
    assert_eq!(missing.trim_ascii_end(), &text[..]);
    let table = door.send("GET", "/api/v1/namespaces/default/configmaps", &[("accept", TABLE)], "").await.body;
    let first = ["kind", "apiVersion", "metadata", "resourceVersion", "columnDefinitions", "name", "type", "format", "description", "priority"];
    assert_eq!(keys(&table)[..first.len()], first);
    door.close().await;
}

/// Defines `dogs.example.com` and waits until clients are told of them.
async fn define_dogs(door: &mut Door, subresources: Value) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"size": {"type": "integer"}}}});
    let names = json!({"plural": "dogs", "singular": "dog", "kind": "Dog", "listKind": "DogList"});
    let definition = json!({"metadata": {"name": "dogs.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "names": names,
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": subresources}]}});
    assert_eq!(door.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.status, 201);
    // It is told of when it is established, which is after it is served.
    for _ in 0..500 {
        if door.get("/apis/example.com/v1").await.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[actix::test]
async fn aggregated_discovery_tells_of_custom_resources_as_upstream() {
    let mut door = Door::open().await;
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    define_dogs(&mut door, json!({"status": {}, "scale": scale})).await;
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let told = door.send("GET", "/apis", &accept, "").await.json();
    let groups = told["items"].as_array().expect("groups");
    let group = groups.iter().find(|group| group["metadata"]["name"] == "example.com").expect("is told of");
    let dogs = &group["versions"][0]["resources"][0];
    let kind = json!({"group": "example.com", "version": "v1", "kind": "Dog"});
    assert_eq!(dogs["responseKind"], kind);
    assert_eq!(dogs["verbs"], json!(["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]));
    let verbs = json!(["get", "patch", "update"]);
    let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    let subresources = json!([
        {"subresource": "status", "responseKind": kind, "verbs": verbs}, {"subresource": "scale", "responseKind": scale, "verbs": verbs},
    ]);
    assert_eq!(dogs["subresources"], subresources);
    let listed = door.send("GET", "/apis/example.com/v1", &[], "").await.json();
    assert_eq!(listed["resources"][0]["verbs"], dogs["verbs"], "the document of the version agrees");
    let names = [1, 2].map(|at| listed["resources"][at]["name"].clone());
    assert_eq!(names, ["dogs/status", "dogs/scale"]);
    door.close().await;
}

/// `kubectl apply` looks up in the document how it may patch a kind.
#[actix::test]
async fn documents_offer_those_patches_that_the_server_takes() {
    let mut door = Door::open().await;
    define_dogs(&mut door, json!({})).await;
    let dogs = "/apis/example.com/v1/namespaces/default/dogs";
    let dog = json!({"apiVersion": "example.com/v1", "kind": "Dog", "metadata": {"name": "rex"}, "size": 1});
    assert_eq!(door.post(dogs, &dog).await.status, 201);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    assert_eq!(door.post("/api/v1/namespaces/default/configmaps", &map).await.status, 201);
    let strategic = "application/strategic-merge-patch+json";
    for (document, collection, name, merges) in
        [("/openapi/v3/apis/example.com/v1", dogs, "rex", false), ("/openapi/v3/api/v1", "/api/v1/namespaces/default/configmaps", "m", true)]
    {
        let path = format!("{}/{{name}}", collection.replace("default", "{namespace}"));
        let content = door.get(document).await.json()["paths"][&path]["patch"]["requestBody"]["content"].clone();
        assert_eq!((content.get(strategic).is_some(), content.get("application/merge-patch+json").is_some()), (merges, true), "{content}");
        let all = door.get("/openapi/v2").await.json();
        let consumed = all["paths"][&path]["patch"]["consumes"].as_array().cloned().unwrap_or_default();
        assert_eq!(consumed.contains(&json!(strategic)), merges, "{consumed:?}");
        let patched =
            door.send("PATCH", &format!("{collection}/{name}"), &[("content-type", strategic)], r#"{"metadata":{"labels":{"a":"b"}}}"#).await;
        assert_eq!(patched.status.as_u16(), if merges { 200 } else { 415 });
    }
    door.close().await;
}

/// Whoever has heard that a definition is established asks discovery next.
#[actix::test]
async fn discovery_tells_of_what_a_watch_said_is_established() {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut door = Door::open().await;
    let mut events = door.stream(&format!("{definitions}?watch=true"), &[]).await;
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let names = json!({"plural": "birds", "singular": "bird", "kind": "Bird", "listKind": "BirdList"});
    let definition = json!({"metadata": {"name": "birds.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "names": names,
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    assert_eq!(door.post(definitions, &definition).await.status, 201);
    let is_established = |event: &Value| {
        let conditions = event["object"]["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Established" && one["status"] == "True"))
    };
    while !is_established(&events.line().await) {}
    let listed = door.get("/apis/example.com/v1").await;
    assert_eq!((listed.status.as_u16(), &listed.json()["resources"][0]["name"]), (200, &json!("birds")));
    assert_eq!(door.get("/apis/example.com").await.status, 200);
    let described = door.get("/openapi/v3/apis/example.com/v1").await;
    assert_eq!((described.status.as_u16(), &described.json()["info"]["version"]), (200, &json!("v0.1.0")));
    door.close().await;
}

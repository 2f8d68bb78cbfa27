//! Forms of replies, and the documents that tell what is served.

use serde_json::json;

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
    let missing = door.get("/api/v1/namespaces/default/configmaps/none").await.body;
    let text = br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"configmaps \"none\" not found","reason":"NotFound","details":{"name":"none","kind":"configmaps"},"code":404}"#;
    assert_eq!(missing.trim_ascii_end(), &text[..]);
    let table = door.send("GET", "/api/v1/namespaces/default/configmaps", &[("accept", TABLE)], "").await.body;
    let first = ["kind", "apiVersion", "metadata", "resourceVersion", "columnDefinitions", "name", "type", "format", "description", "priority"];
    assert_eq!(keys(&table)[..first.len()], first);
    door.close().await;
}

use serde_json::{Value, json};

use super::{
    super::edge::door::{Door, Reply},
    extension::{Extension, GROUP, Manners, becomes},
};
use crate::apiserver::testing::{TestApi, eventually};

const AGGREGATED: [(&str, &str); 1] = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];

fn definition() -> Value {
    let names = json!({"plural": "flunders", "singular": "flunder", "kind": "Flunder", "listKind": "FlunderList"});
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let versions: Vec<Value> =
        ["v1", "v1beta1"].iter().map(|name| json!({"name": name, "served": true, "storage": *name == "v1beta1", "schema": schema})).collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "flunders.wardle.example.com"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": versions}})
}

/// The group as an aggregated document has it: versions with their resources and freshness.
fn group(document: &Value) -> Vec<(String, Vec<String>, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = document["items"].as_array().expect("groups");
    let found = items.iter().find(|group| group["metadata"]["name"] == GROUP);
    let versions = found.and_then(|group| group["versions"].as_array().cloned()).unwrap_or_default();
    let resources = |version: &Value| version["resources"].as_array().into_iter().flatten().map(|resource| text(&resource["resource"])).collect();
    versions.iter().map(|version| (text(&version["version"]), resources(version), text(&version["freshness"]))).collect()
}

async fn discovered(door: &mut Door) -> Vec<(String, Vec<String>, String)> {
    group(&door.send("GET", "/apis", &AGGREGATED, "").await.json())
}

fn current(version: &str) -> (String, Vec<String>, String) {
    (version.into(), vec!["flunders".into()], "Current".into())
}

async fn list(door: &mut Door, version: &str) -> Reply {
    door.get(&format!("/apis/{GROUP}/{version}/namespaces/default/flunders")).await
}

async fn register(extension: &Extension) -> TestApi {
    let api = extension.boot().await;
    extension.make_service(&api, "flunder").await;
    api.create(extension.api_service("flunder")).await;
    becomes(&api, "v1.wardle.example.com", "Passed").await;
    api
}

#[actix::test]
async fn a_version_elsewhere_stands_beside_one_that_is_defined_here_and_wins_over_it() {
    let extension = Extension::serve("flunder", "v1").await;
    let api = extension.boot().await;
    api.create(definition()).await;
    let mut door = Door::open_to(api).await;
    eventually("the definition is served", async || list(&mut door, "v1").await.status == 200).await;
    door.post(
        &format!("/apis/{GROUP}/v1/namespaces/default/flunders"),
        &json!({"kind": "Flunder", "apiVersion": format!("{GROUP}/v1"), "metadata": {"name": "own"}}),
    )
    .await;
    extension.make_service(door.api(), "flunder").await;
    door.api().create(extension.api_service("flunder")).await;
    becomes(door.api(), "v1.wardle.example.com", "Passed").await;
    eventually("both are discovered", async || discovered(&mut door).await == [current("v1"), current("v1beta1")]).await;
    assert_eq!(list(&mut door, "v1").await.json()["items"], json!([]), "the other server has none");
    assert_eq!(list(&mut door, "v1beta1").await.json()["items"][0]["metadata"]["name"], "own");
    let told = door.get(&format!("/apis/{GROUP}")).await.json();
    assert_eq!(told["preferredVersion"]["version"], "v1");
    // A version that is served elsewhere goes back to whoever serves it here.
    door.api().delete("apiservices.apiregistration.k8s.io", "", "v1.wardle.example.com", Default::default()).await.expect("goes");
    eventually("it is served here again", async || list(&mut door, "v1").await.json()["items"][0]["metadata"]["name"] == "own").await;
    door.close().await;
}

#[actix::test]
async fn groups_stand_by_priority_and_one_whose_server_is_gone_is_stale() {
    let extension = Extension::serve("flunder", "v1").await;
    let api = register(&extension).await;
    let mut door = Door::open_to(api).await;
    eventually("it is discovered", async || discovered(&mut door).await == [current("v1")]).await;
    let groups = door.get("/apis").await.json();
    let names: Vec<&str> = groups["groups"].as_array().expect("groups").iter().filter_map(|group| group["name"].as_str()).collect();
    assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "events.k8s.io"]);
    assert_eq!(names[names.len() - 2..], [GROUP, "metrics.k8s.io"]);
    assert!(door.get("/").await.json()["paths"].as_array().expect("paths").contains(&json!(format!("/apis/{GROUP}/v1"))));
    extension.die();
    let change = json!({"spec": {"groupPriorityMinimum": 19000}});
    let target = door.api().target("apiservices.apiregistration.k8s.io", "", "v1.wardle.example.com");
    door.api().patch(target, troupe_api::service::PatchType::Merge, change).await.expect("is patched");
    let stale = [("v1".to_owned(), vec!["flunders".to_owned()], "Stale".to_owned())];
    eventually("it is told to be stale", async || discovered(&mut door).await == stale).await;
    let groups = door.get("/apis").await.json();
    assert_eq!(groups["groups"][1]["name"], GROUP, "its priority is another one now");
    door.close().await;
}

#[actix::test]
async fn an_old_server_is_discovered_and_described_too() {
    for old in [false, true] {
        let extension = Extension::serve("flunder", "v1").await;
        extension.behave(Manners { old, ..Manners::default() });
        let mut door = Door::open_to(register(&extension).await).await;
        eventually("it is discovered", async || discovered(&mut door).await == [current("v1")]).await;
        let path = format!("apis/{GROUP}/v1");
        let url = async |door: &mut Door| door.get("/openapi/v3").await.json()["paths"][&path]["serverRelativeURL"].as_str().map(str::to_owned);
        eventually("it is described", async || url(&mut door).await.is_some()).await;
        let url = url(&mut door).await.expect("is told");
        let document = door.get(&url).await.json();
        if old {
            assert_eq!(document["components"]["schemas"]["example.Flunder"]["description"], "A flunder.");
        } else {
            assert_eq!((url, &document["of"]), (format!("/openapi/v3/{path}?hash=ABC"), &json!("flunders")));
        }
        let all = door.get("/openapi/v2").await.json();
        assert_eq!(all["definitions"]["example.Flunder"]["x-kubernetes-group-version-kind"][0]["group"], GROUP);
        assert!(all["definitions"].get("unused").is_none() && all["paths"].get("/apis/apps/v1/namespaces/{namespace}/deployments").is_some());
        door.close().await;
    }
}

use serde_json::json;
use troupe_api::service::DeleteOptions;

use super::extension::{Extension, GROUP, becomes};
use crate::{
    apiserver::testing::{TestApi, eventually},
    controllers::{garbage_collector, namespace::NamespaceController},
    runtime::{cache::Caches, controller},
};

const FLUNDERS: &str = "flunders.wardle.example.com";

async fn started(extension: &Extension) -> TestApi {
    let api = extension.boot().await;
    let system = api.server.system().clone();
    let caches = Caches::new(system.clone(), api.client.clone());
    controller::start(&system, &caches, api.client.clone(), NamespaceController::new(&caches));
    extension.make_service(&api, "flunder").await;
    api.create(extension.api_service("flunder")).await;
    becomes(&api, "v1.wardle.example.com", "Passed").await;
    use troupe_api::ApiService;
    eventually("its resources are known", async || api.server.registry().by_resource(GROUP, "flunders").is_some()).await;
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await;
    for namespace in ["team", "default"] {
        api.create(
            json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Flunder", "metadata": {"name": format!("of-{namespace}"), "namespace": namespace}}),
        )
        .await;
    }
    api
}

#[actix::test]
async fn a_namespace_takes_what_other_servers_have_along() {
    let extension = Extension::serve("flunder", "v1").await;
    let api = started(&extension).await;
    assert_eq!(api.names(FLUNDERS, "team").await, ["of-team"]);
    api.delete("namespaces", "", "team", DeleteOptions::default()).await.expect("accepted");
    eventually("the namespace is gone", async || api.get("namespaces", "", "team").await.is_err()).await;
    assert_eq!(extension.names(), ["of-default"]);
}

#[actix::test]
async fn a_namespace_waits_for_a_server_that_cannot_be_asked() {
    let mut extension = Extension::serve("flunder", "v1").await;
    let api = started(&extension).await;
    extension.die();
    let target = api.target("apiservices.apiregistration.k8s.io", "", "v1.wardle.example.com");
    api.patch(target, troupe_api::service::PatchType::Merge, json!({"spec": {"versionPriority": 201}})).await.expect("is patched");
    becomes(&api, "v1.wardle.example.com", "FailedDiscoveryCheck").await;
    api.delete("namespaces", "", "team", DeleteOptions::default()).await.expect("accepted");
    let told = "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: wardle.example.com/v1: stale GroupVersion discovery: wardle.example.com/v1";
    eventually("the namespace waits", async || {
        let namespace = api.get("namespaces", "", "team").await.expect("is still there");
        let conditions = namespace.list(&["status", "conditions"]).to_vec();
        conditions.iter().any(|condition| condition["type"] == "NamespaceDeletionDiscoveryFailure" && condition["message"] == told)
    })
    .await;
    assert_eq!(extension.names().len(), 2);
    extension.rise().await;
    eventually("the namespace is gone", async || api.get("namespaces", "", "team").await.is_err()).await;
    assert_eq!(extension.names(), ["of-default"]);
}

#[actix::test]
async fn what_belongs_to_an_object_of_another_server_goes_with_it() {
    let extension = Extension::serve("flunder", "v1").await;
    let api = started(&extension).await;
    garbage_collector::start(api.server.system(), &api.client);
    let owner = api.get(FLUNDERS, "default", "of-default").await.expect("is there");
    let reference = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Flunder", "name": "of-default", "uid": owner.uid()});
    let map = |name: &str, uid: &str| {
        let mut reference = reference.clone();
        reference["uid"] = uid.into();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "ownerReferences": [reference]}})
    };
    api.create(map("owned", owner.uid())).await;
    api.create(map("orphan", "another")).await;
    eventually("what has no owner goes", async || api.get("configmaps", "default", "orphan").await.is_err()).await;
    assert!(api.get("configmaps", "default", "owned").await.is_ok());
}

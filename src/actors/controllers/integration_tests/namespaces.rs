use serde_json::json;
use troupe_api::service::DeleteOptions;

use super::{World, eventually_async};

#[actix::test]
async fn a_new_namespace_gets_its_account_and_the_root_certificate() {
    let world = World::new().await;
    world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await;
    eventually_async("the account is there", async || world.api.get("serviceaccounts", "team", "default").await.is_ok()).await;
    eventually_async("the certificate is there", async || {
        let map = world.api.get("configmaps", "team", "kube-root-ca.crt").await;
        map.is_ok_and(|map| map.str(&["data", "ca.crt"]) == "CA")
    })
    .await;
    world.settles().await;
}

#[actix::test]
async fn a_deleted_namespace_takes_everything_along() {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await;
    eventually_async("the account is there", async || world.api.get("serviceaccounts", "team", "default").await.is_ok()).await;
    let mut deployment = super::deployment("web", 2, "a:1");
    deployment["metadata"]["namespace"] = json!("team");
    world.api.create(deployment).await;
    world
        .api
        .create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "team"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}))
        .await;
    eventually_async("the pods are there", async || world.api.names("pods", "team").await.len() == 2).await;
    world.api.delete("namespaces", "", "team", DeleteOptions::default()).await.expect("accepted");
    eventually_async("the namespace is gone", async || world.api.get("namespaces", "", "team").await.is_err()).await;
    for resource in ["pods", "replicasets.apps", "deployments.apps", "services", "configmaps", "serviceaccounts", "endpoints"] {
        assert_eq!(world.api.names(resource, "team").await, Vec::<String>::new(), "{resource}");
    }
    world.settles().await;
}

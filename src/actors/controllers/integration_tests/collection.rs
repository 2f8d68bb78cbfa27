use serde_json::{Value, json};
use troupe_api::service::{DeleteOptions, PatchType, Propagation};

use super::{World, eventually_async};

async fn config_map(world: &World, name: &str, owners: &[&Value]) -> Value {
    let owners: Vec<&Value> = owners.to_vec();
    let metadata = json!({"name": name, "namespace": "default", "ownerReferences": owners});
    let made = world.api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
    let uid = made.str(&["metadata", "uid"]);
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": true})
}

async fn delete(world: &World, resource: &str, name: &str, propagation: Propagation) {
    let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
    world.api.delete(resource, "default", name, options).await.expect("deleted");
}

async fn gone(world: &World, resource: &str, name: &str) {
    eventually_async(&format!("{name} is gone"), async || world.api.get(resource, "default", name).await.is_err()).await;
}

#[actix::test]
async fn a_deleted_deployment_takes_sets_and_pods_along() {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    world.deployment("web", 2, "a:1").await;
    world.rolled_out("web", 2).await;
    delete(&world, "deployments.apps", "web", Propagation::Background).await;
    eventually_async("sets and pods are gone", async || {
        world.api.names("replicasets.apps", "default").await.is_empty() && world.api.names("pods", "default").await.is_empty()
    })
    .await;
    world.settles().await;
}

#[actix::test]
async fn in_foreground_the_owner_goes_last() {
    let world = World::new().await;
    let owner = config_map(&world, "owner", &[]).await;
    config_map(&world, "child", &[&owner]).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    world.api.patch(world.api.target("configmaps", "default", "child"), PatchType::Merge, hold).await.expect("patched");
    delete(&world, "configmaps", "owner", Propagation::Foreground).await;
    eventually_async("the child is being deleted", async || {
        let child = world.api.get("configmaps", "default", "child").await;
        child.is_ok_and(|child| child.is_terminating())
    })
    .await;
    assert!(world.api.get("configmaps", "default", "owner").await.is_ok(), "the owner waits");
    let release = json!({"metadata": {"finalizers": null}});
    world.api.patch(world.api.target("configmaps", "default", "child"), PatchType::Merge, release).await.expect("patched");
    gone(&world, "configmaps", "child").await;
    gone(&world, "configmaps", "owner").await;
    world.settles().await;
}

#[actix::test]
async fn orphans_stay_without_their_owner() {
    let world = World::new().await;
    let owner = config_map(&world, "owner", &[]).await;
    config_map(&world, "child", &[&owner]).await;
    delete(&world, "configmaps", "owner", Propagation::Orphan).await;
    gone(&world, "configmaps", "owner").await;
    let child = world.api.get("configmaps", "default", "child").await.expect("it stays");
    assert!(child.list(&["metadata", "ownerReferences"]).is_empty());
    world.settles().await;
}

#[actix::test]
async fn an_owner_that_never_was_or_lives_elsewhere_counts_as_absent() {
    let world = World::new().await;
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "far", "namespace": "kube-system"}});
    let far = world.api.create(other).await;
    let far = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "far", "uid": far.str(&["metadata", "uid"])});
    config_map(&world, "across", &[&far]).await;
    config_map(&world, "lost", &[&json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "not-there"})]).await;
    gone(&world, "configmaps", "across").await;
    gone(&world, "configmaps", "lost").await;
    assert!(world.api.get("configmaps", "kube-system", "far").await.is_ok());
    eventually_async("people are told", async || {
        world.events("default", "across").await.iter().any(|(reason, _)| reason == "OwnerRefInvalidNamespace")
    })
    .await;
}

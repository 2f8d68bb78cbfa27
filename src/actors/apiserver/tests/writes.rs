use serde_json::json;
use troupe_api::service::{DeleteOptions, PatchType};

use crate::apiserver::testing::{TestApi, boot};

async fn config_map(api: &TestApi, name: &str) -> troupe_api::meta::Object {
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}})).await
}

#[actix::test]
async fn a_created_object_has_its_identity_and_can_be_read_at_once() {
    let api = boot().await;
    let created = config_map(&api, "a").await;
    assert!(!created.uid().is_empty() && !created.str(&["metadata", "creationTimestamp"]).is_empty());
    assert_eq!(api.get("configmaps", "default", "a").await.expect("is there"), created);
    let again = api.try_create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}})).await;
    assert_eq!(again.expect_err("exists").message, "configmaps \"a\" already exists");
}

#[actix::test]
async fn an_update_with_a_stale_resource_version_conflicts() {
    let api = boot().await;
    let first = config_map(&api, "a").await;
    let mut changed = first.clone();
    changed.set(&["data", "a"], "2");
    let second = api.try_update(changed.clone().into_value()).await.expect("is current");
    assert_ne!(second.resource_version(), first.resource_version());
    changed.set(&["data", "a"], "3");
    let status = api.try_update(changed.clone().into_value()).await.expect_err("is stale");
    assert_eq!((status.code, status.is_conflict()), (409, true));
    changed.remove(&["metadata", "resourceVersion"]);
    let third = api.try_update(changed.into_value()).await.expect("unconditional");
    assert_eq!(third.str(&["data", "a"]), "3");
}

#[actix::test]
async fn an_update_that_changes_nothing_keeps_the_resource_version() {
    let api = boot().await;
    let first = config_map(&api, "a").await;
    let mut same = first.clone();
    same.remove(&["metadata", "resourceVersion"]);
    let second = api.try_update(same.into_value()).await.expect("succeeds");
    assert_eq!(second.resource_version(), first.resource_version());
}

#[actix::test]
async fn patches_change_only_what_they_name() {
    let api = boot().await;
    config_map(&api, "a").await;
    let patched = api.patch(api.target("configmaps", "default", "a"), PatchType::Merge, json!({"data": {"b": "2"}})).await.expect("patches");
    assert_eq!((patched.str(&["data", "a"]), patched.str(&["data", "b"])), ("1", "2"));
}

#[actix::test]
async fn a_deletion_waits_for_the_last_finalizer() {
    let api = boot().await;
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default", "finalizers": ["x.io/y"]}})).await;
    let reply = api.delete("configmaps", "default", "a", DeleteOptions::default()).await.expect("accepted");
    let marked = reply.into_tree().expect("the object");
    assert!(marked.is_terminating());
    let added =
        api.patch(api.target("configmaps", "default", "a"), PatchType::Merge, json!({"metadata": {"finalizers": ["x.io/y", "z.io/z"]}})).await;
    assert_eq!(
        added.expect_err("too late").message,
        "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"z.io/z\"}"
    );
    api.patch(api.target("configmaps", "default", "a"), PatchType::Merge, json!({"metadata": {"finalizers": null}})).await.expect("lets go");
    assert_eq!(api.get("configmaps", "default", "a").await.expect_err("is gone").code, 404);
}

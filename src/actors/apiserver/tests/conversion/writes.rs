use serde_json::{Value, json};
use troupe_api::{
    meta::Object,
    service::{DeleteOptions, Operation, PatchType},
};

use super::sites::{CRDS, SITES, good_world, site};

#[actix::test]
async fn what_is_written_in_one_version_is_stored_in_the_other() {
    let world = good_world().await;
    let made = world.api.create(site("v2", "a", json!({"host": "h", "port": "80"}))).await;
    assert_eq!((made.api_version(), made.get(&["spec"])), ("example.com/v2", Some(&json!({"host": "h", "port": "80", "note": "of v2"}))));
    assert_eq!(world.stored("a"), "example.com/v1");
    let stored = world.get("v1", "a").await.expect("is there");
    assert_eq!(stored.get(&["spec"]), Some(&json!({"hostPort": "h:80", "note": "of v2"})), "defaults are of the version that was spoken");
    assert_eq!(stored.label("shown"), None);
}

#[actix::test]
async fn every_kind_of_change_works_in_both_versions() {
    let world = good_world().await;
    world.api.create(site("v1", "a", json!({"hostPort": "h:80", "replicas": 1}))).await;
    let mut object = world.get("v2", "a").await.expect("is there");
    object.set(&["spec", "port"], "81");
    let put = world.api.try_update_at(world.at("v2", "a", ""), object.into_value()).await.expect("replaces");
    assert_eq!((put.str(&["spec", "port"]), put.int(&["metadata", "generation"])), ("81", Some(2)));
    let patch = async |version: &str, subresource: &str, kind: PatchType, patch: Value| -> Object {
        world.api.patch(world.at(version, "a", subresource), kind, patch).await.expect("patches")
    };
    let merged = patch("v2", "", PatchType::Merge, json!({"spec": {"host": "i"}})).await;
    assert_eq!((merged.api_version(), merged.str(&["spec", "host"]), merged.str(&["spec", "port"])), ("example.com/v2", "i", "81"));
    let operation = json!([{"op": "test", "path": "/spec/port", "value": "81"}, {"op": "replace", "path": "/spec/port", "value": "82"}]);
    assert_eq!(patch("v2", "", PatchType::Json, operation).await.str(&["spec", "port"]), "82");
    assert_eq!(patch("v1", "", PatchType::Merge, json!({"spec": {"note": "n"}})).await.str(&["spec", "hostPort"]), "i:82");
    let status = patch("v2", "status", PatchType::Merge, json!({"status": {"phase": "Up"}, "spec": {"host": "no"}})).await;
    assert_eq!((status.str(&["status", "phase"]), status.str(&["spec", "host"])), ("Up", "i"));
    let scale = patch("v2", "scale", PatchType::Merge, json!({"spec": {"replicas": 5}})).await;
    assert_eq!((scale.kind(), scale.int(&["spec", "replicas"])), ("Scale", Some(5)));
    let scale = world.api.call(world.at("v2", "a", "scale"), Operation::Get { resource_version: None }).await.expect("scales");
    assert_eq!(scale.into_tree().expect("an object").int(&["spec", "replicas"]), Some(5));
    let shown = world.get("v1", "a").await.expect("is there");
    assert_eq!(shown.get(&["spec"]), Some(&json!({"hostPort": "i:82", "note": "n", "replicas": 5})));
    assert_eq!(shown.str(&["status", "phase"]), "Up");
    let before = shown.resource_version().to_owned();
    let same = patch("v2", "", PatchType::Merge, json!({"spec": {"host": "i"}})).await;
    assert_eq!(same.resource_version(), before, "nothing changed");
}

#[actix::test]
async fn values_are_checked_by_the_version_that_is_spoken() {
    let world = good_world().await;
    let message = world.api.try_create(site("v2", "a", json!({"host": 1}))).await.expect_err("is no text").message;
    assert!(message.contains("spec.host: Invalid value: \"integer\": spec.host in body must be of type string: \"integer\""), "{message}");
    let made = world.api.create(site("v2", "a", json!({"host": "h", "port": "1", "hostPort": "gone"}))).await;
    assert_eq!(made.get(&["spec", "hostPort"]), None, "no field of this version");
}

#[actix::test]
async fn deletions_work_in_both_versions() {
    let world = good_world().await;
    for (version, name) in [("v1", "a"), ("v2", "b"), ("v2", "held")] {
        world.api.create(site("v1", name, json!({"hostPort": "h:80"}))).await;
        if name == "held" {
            let patch = json!({"metadata": {"finalizers": ["example.com/hold"]}});
            world.api.patch(world.at("v1", name, ""), PatchType::Merge, patch).await.expect("patches");
        }
        let reply = world.api.call(world.at(version, name, ""), Operation::Delete(DeleteOptions::default())).await.expect("deletes");
        if name == "held" {
            let held = reply.into_tree().expect("waits");
            assert_eq!((held.api_version(), held.is_terminating(), held.str(&["spec", "host"])), ("example.com/v2", true, "h"));
        }
    }
    assert_eq!(world.api.names(SITES, "default").await, ["held"]);
    let free = world.api.patch(world.at("v2", "held", ""), PatchType::Merge, json!({"metadata": {"finalizers": null}})).await.expect("lets go");
    assert_eq!(free.api_version(), "example.com/v2");
    assert_eq!(world.api.names(SITES, "default").await, [""; 0]);
}

#[actix::test]
async fn objects_of_several_stored_versions_lie_side_by_side() {
    let world = good_world().await;
    world.api.create(site("v1", "old", json!({"hostPort": "h:80"}))).await;
    let mut definition = world.api.get(CRDS, "", SITES).await.expect("is there").into_value();
    for (at, storage) in [(0, false), (1, true)] {
        definition["spec"]["versions"][at]["storage"] = storage.into();
    }
    let definition = world.api.try_update(definition).await.expect("updates");
    assert_eq!(definition.list(&["status", "storedVersions"]), [json!("v1"), json!("v2")]);
    crate::apiserver::testing::eventually("v2 is for storage", async || &*world.at("v1", "", "").resource.storage.version == "v2").await;
    world.api.create(site("v1", "new", json!({"hostPort": "i:81"}))).await;
    world.questions();
    assert_eq!((&*world.stored("old"), &*world.stored("new")), ("example.com/v1", "example.com/v2"));
    for (version, name, field, want) in [("v1", "old", "hostPort", "h:80"), ("v2", "new", "host", "i")] {
        assert_eq!(world.get(version, name).await.expect("is there").str(&["spec", field]), want);
    }
    assert_eq!(world.questions(), [], "each lies there in the version that is asked for");
    assert_eq!(world.get("v2", "old").await.expect("is there").str(&["spec", "host"]), "h");
    assert_eq!(world.get("v1", "new").await.expect("is there").str(&["spec", "hostPort"]), "i:81");
    // A write that changes nothing brings the object into the version for storage.
    let before = world.get("v2", "old").await.expect("is there");
    let after = world.api.patch(world.at("v2", "old", ""), PatchType::Merge, json!({})).await.expect("patches");
    assert_ne!(before.resource_version(), after.resource_version());
    assert_eq!((&*world.stored("old"), after.get(&["spec"])), ("example.com/v2", before.get(&["spec"])));
    assert_eq!(before.int(&["metadata", "generation"]), after.int(&["metadata", "generation"]));
}

#[actix::test]
async fn a_dry_run_shows_the_version_that_is_spoken() {
    let world = good_world().await;
    let options = troupe_api::service::WriteOptions { dry_run: true, ..Default::default() };
    let body = troupe_api::service::Body::Json(site("v2", "a", json!({"host": "h", "port": "80"})).to_string().into());
    let reply = world.api.call(world.at("v2", "", ""), Operation::Create { body, options }).await.expect("would be made");
    assert_eq!(reply.into_tree().expect("an object").str(&["spec", "host"]), "h");
    assert_eq!(world.questions(), [("example.com/v1".to_owned(), 1)], "it could be stored");
}

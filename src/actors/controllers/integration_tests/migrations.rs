use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey},
    resources::{builtin, optional},
    service::{Listers, PatchType},
};
use troupe_api_server::store::memory::MemoryStore;

use super::eventually_async;
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    controllers::storage_version_migrator::StorageVersionMigrator,
    runtime::{
        cache::Caches,
        controller::start,
        system::{System, SystemOptions},
    },
};

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const BOATS: &str = "boats.example.com";
const MIGRATIONS: &str = "storageversionmigrations.storagemigration.k8s.io";

/// A server, with what lives as long as it does.
struct World {
    api: TestApi,
    _caches: Caches,
}

impl std::ops::Deref for World {
    type Target = TestApi;

    fn deref(&self) -> &TestApi {
        &self.api
    }
}

async fn server() -> World {
    let system = System::new(SystemOptions::default()).expect("arbiters start");
    let mut options = ApiServerOptions { system: system.clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
    options.resources = builtin().into_iter().chain(optional(|_| true)).collect();
    let api = boot_with(options).await;
    let caches = Caches::new(system.clone(), api.client.clone());
    start(&system, &caches, api.client.clone(), StorageVersionMigrator::new(&caches));
    World { api, _caches: caches }
}

fn definition() -> Value {
    let schema =
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"sails": {"type": "integer"}}}}}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema});
    let names = json!({"plural": "boats", "singular": "boat", "kind": "Boat"});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": BOATS}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": names, "versions": [version("v1", true), version("v2", false)]}})
}

fn migration(name: &str, plural: &str) -> Value {
    json!({"apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration", "metadata": {"name": name},
        "spec": {"resource": {"group": "example.com", "resource": plural}}})
}

/// A condition's status and reason.
fn condition(object: &Object, kind: &str) -> (String, String) {
    let found = object.list(&["status", "conditions"]).iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    (found["status"].as_str().unwrap_or_default().to_owned(), found["reason"].as_str().unwrap_or_default().to_owned())
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn stored_in(api: &TestApi, name: &str) -> String {
    let found = Listers::get(&*api.server, &GroupResource::new("example.com", "boats"), &ObjectKey::new("default", name));
    found.map_or_else(String::new, |object| object.api_version().to_owned())
}

/// Boats of which the first three lie there in v1 while v2 is for storage.
async fn with_old_boats() -> World {
    let api = server().await;
    api.create(definition()).await;
    let established = async || condition(&api.get(CRDS, "", BOATS).await.expect("is there"), "Established").0 == "True";
    eventually_async("established", established).await;
    for name in ["a", "b", "c"] {
        let spec = json!({"sails": 2});
        api.create(json!({"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
    }
    let flip = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false}, {"op": "replace", "path": "/spec/versions/1/storage", "value": true}]);
    api.patch(api.target(CRDS, "", BOATS), PatchType::Json, flip).await.expect("patches");
    eventually_async("v2 is for storage", async || &*api.target(BOATS, "", "").resource.storage.version == "v2").await;
    assert_eq!(stored_in(&api, "a"), "example.com/v1");
    api
}

async fn ended(api: &TestApi, name: &str) -> Object {
    let done = async || condition(&api.get(MIGRATIONS, "", name).await.expect("is there"), "Running").0 == "False";
    eventually_async("the migration has ended", done).await;
    api.get(MIGRATIONS, "", name).await.expect("is there")
}

#[actix::test]
async fn everything_stored_comes_into_the_version_for_storage() {
    let api = with_old_boats().await;
    let before = api.get(BOATS, "default", "a").await.expect("is there");
    api.create(migration("boats", "boats")).await;
    let migrated = ended(&api, "boats").await;
    assert_eq!(condition(&migrated, "Succeeded"), is("True", "StorageVersionMigrationSucceeded"));
    assert_eq!(condition(&migrated, "Running"), is("False", "MigrationCompleted"));
    for name in ["a", "b", "c"] {
        assert_eq!(stored_in(&api, name), "example.com/v2");
    }
    let after = api.get(BOATS, "default", "a").await.expect("is there");
    assert_eq!(
        (after.get(&["spec"]), after.list(&["metadata", "managedFields"])),
        (before.get(&["spec"]), before.list(&["metadata", "managedFields"]))
    );
    let definition = api.get(CRDS, "", BOATS).await.expect("is there");
    assert_eq!(condition(&definition, "StorageMigrating"), is("False", "MigrationSucceeded"));
    assert_eq!(definition.list(&["status", "storedVersions"]), [json!("v2")]);
}

#[actix::test]
async fn migrations_of_one_resource_run_one_after_the_other() {
    let api = with_old_boats().await;
    for name in ["first", "second", "third"] {
        api.create(migration(name, "boats")).await;
    }
    for name in ["first", "second", "third"] {
        assert_eq!(condition(&ended(&api, name).await, "Succeeded").0, "True", "{name}");
    }
    assert_eq!(api.get(CRDS, "", BOATS).await.expect("is there").list(&["status", "storedVersions"]), [json!("v2")]);
}

#[actix::test]
async fn migrations_of_what_is_not_there_wait() {
    let api = server().await;
    api.create(migration("ghosts", "ghosts")).await;
    let running = async || condition(&api.get(MIGRATIONS, "", "ghosts").await.expect("is there"), "Running").0 == "True";
    eventually_async("it runs", running).await;
    let refused = api.patch(api.target(MIGRATIONS, "", "ghosts"), PatchType::Merge, json!({"spec": {"resource": {"resource": "boats"}}})).await;
    assert!(refused.expect_err("is for good").message.contains("field is immutable"));
}

#[actix::test]
async fn resources_of_the_core_group_are_migrated() {
    let api = server().await;
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}})).await;
    let mut own = migration("core", "configmaps");
    own["spec"]["resource"]["group"] = json!("");
    api.create(own).await;
    let succeeded = async || condition(&api.get(MIGRATIONS, "", "core").await.expect("is there"), "Succeeded").0 == "True";
    eventually_async("it has succeeded", succeeded).await;
}

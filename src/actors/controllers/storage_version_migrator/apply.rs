//! One step of a migration: calls of the API.

use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::{
    api::storagemigration::v1beta1::StorageVersionMigration, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde_json::{Value, json};
use troupe_api::{
    meta::{Revision, time::format_time},
    resources::Resource,
    service::{ListOptions, ListReply, Operation, PatchType, ReplyBody, Target, WriteOptions},
    status::Status,
    stored::StoredObject,
};

use super::plan::{self, Action, FAILED, RUNNING, SUCCEEDED};
use crate::runtime::controller::ReconcileContext;

/// Owns what is written of objects, which is nothing.
const MANAGER: &str = "storage-version-migrator-controller";
/// Owns conditions of definitions.
const RUNNER: &str = "migration-runner-controller";
/// Nobody has a namespace of this name; a list in it tells the newest revision and nothing else.
const NOWHERE: &str = "this-is-a-fake-namespace-for-storage-version-migration";
const PAGE: usize = 500;
/// Writes at once.
const WORKERS: usize = 8;
/// How often a definition that changes meanwhile is read again.
const ATTEMPTS: usize = 5;

/// Takes the step; gives the migration as it was written.
pub async fn apply(
    action: &Action,
    own: &StorageVersionMigration,
    row: Option<Arc<Resource>>,
    cx: &ReconcileContext,
) -> Result<Arc<StorageVersionMigration>, Status> {
    let now = cx.now();
    let new = match (action, row) {
        (Action::Run, _) => {
            let name = own.metadata.name.as_deref().unwrap_or_default();
            let running = move |_: &CustomResourceDefinition| ("True", "MigrationRunning", format!("Migration {name} is running"), None);
            of_definition(own, cx, running).await?;
            plan::with_condition(own, RUNNING, "MigrationRunning", "The migration is running", now)
        }
        (Action::NoteRevision, Some(row)) => {
            let mut new = own.clone();
            new.status.get_or_insert_default().resource_version = Some(revision(&row, cx).await?.to_string());
            new
        }
        (Action::Migrate, Some(row)) => match migrate(own, &row, cx).await? {
            None => plan::with_condition(own, SUCCEEDED, "StorageVersionMigrationSucceeded", "", now),
            Some(why) => failed(own, &format!("migration encountered unhandled error: {}", why.message), cx),
        },
        (Action::Fail(why), _) => failed(own, why, cx),
        (Action::Finish, _) => {
            let has_succeeded = plan::has(own, SUCCEEDED);
            of_definition(own, cx, move |definition| ended(definition, has_succeeded)).await?;
            plan::finished(own, now)
        }
        (Action::Wait, _) | (_, None) => own.clone(),
    };
    cx.client().all::<StorageVersionMigration>().update_status(&new).await
}

fn failed(own: &StorageVersionMigration, why: &str, cx: &ReconcileContext) -> StorageVersionMigration {
    plan::with_condition(own, FAILED, "StorageVersionMigrationFailed", why, cx.now())
}

/// A status, a reason, a message, and the version that is stored from now on where that is known.
type Told = (&'static str, &'static str, String, Option<String>);

/// What is said of a definition whose migration has ended. Old versions are stored no more if it did not change meanwhile.
fn ended(definition: &CustomResourceDefinition, has_succeeded: bool) -> Told {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let observed = conditions.iter().find(|one| one.type_ == "StorageMigrating").and_then(|one| one.observed_generation);
    let is_same = observed.is_some() && observed == definition.metadata.generation;
    let stored = definition.spec.versions.iter().find(|version| version.storage).map(|version| version.name.clone());
    match (has_succeeded, is_same) {
        (true, true) => {
            let message = "The migration has succeeded and the stored versions have been updated";
            ("False", "MigrationSucceeded", message.to_owned(), stored)
        }
        (true, false) => {
            let message = "The migration has succeeded but the stored versions have not been updated due to a generation mismatch";
            ("False", "MigrationSucceeded", message.to_owned(), None)
        }
        (false, _) => ("False", "MigrationFailed", "The migration has failed".to_owned(), None),
    }
}

/// Says something of the definition of a custom resource, as it is when it is written; nothing where there is none.
async fn of_definition(own: &StorageVersionMigration, cx: &ReconcileContext, told: impl Fn(&CustomResourceDefinition) -> Told) -> Result<(), Status> {
    let (group, plural) = plan::resource(own);
    let name = format!("{plural}.{group}");
    let api = cx.client().all::<CustomResourceDefinition>();
    let mut conflict = None;
    for _ in 0..ATTEMPTS {
        let definition = match api.get(&name).await {
            Err(status) if status.is_not_found() => return Ok(()),
            definition => definition?,
        };
        match tell(&definition, told(&definition), cx).await {
            Err(status) if status.is_conflict() => conflict = Some(status),
            written => return written,
        }
    }
    conflict.map_or(Ok(()), Err)
}

async fn tell(definition: &CustomResourceDefinition, (status, reason, message, stored): Told, cx: &ReconcileContext) -> Result<(), Status> {
    let condition = json!({
        "type": "StorageMigrating", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": format_time(cx.now()), "observedGeneration": definition.metadata.generation,
    });
    let mut body = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": definition.metadata.name, "resourceVersion": definition.metadata.resource_version},
        "status": {"conditions": [condition]},
    });
    if let Some(stored) = stored {
        body["status"]["storedVersions"] = json!([stored]);
    }
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    let resource = cx.client().service().registry().by_kind("apiextensions.k8s.io", "CustomResourceDefinition").ok_or_else(Status::page_not_found)?;
    let target = Target { resource, version: "v1".into(), namespace: "".into(), name: name.into(), subresource: "status".into() };
    patch(target, &body, RUNNER, true, cx).await
}

async fn patch(target: Target, body: &Value, manager: &str, force: bool, cx: &ReconcileContext) -> Result<(), Status> {
    let options = WriteOptions { field_manager: manager.into(), force, ..WriteOptions::default() };
    let operation = Operation::Patch { patch_type: PatchType::Apply, body: body.to_string().into(), options };
    cx.client().call(target, operation).await.map(drop)
}

fn target(row: &Arc<Resource>, namespace: Arc<str>, name: Arc<str>) -> Target {
    Target { resource: row.clone(), version: row.metadata_version(), namespace, name, subresource: "".into() }
}

/// The newest revision: what is stored later is in the right version.
async fn revision(row: &Arc<Resource>, cx: &ReconcileContext) -> Result<Revision, Status> {
    let namespace = if row.namespaced { NOWHERE } else { "" };
    let options = ListOptions { limit: 1, ..ListOptions::default() };
    list(target(row, namespace.into(), "".into()), options, cx).await.map(|list| list.revision)
}

async fn list(target: Target, options: ListOptions, cx: &ReconcileContext) -> Result<ListReply, Status> {
    match cx.client().call(target, Operation::List(options)).await?.body {
        ReplyBody::List(list) => Ok(list),
        _ => Err(Status::internal("the reply carries no list")),
    }
}

/// Writes every object that may lie there in an old version; says what it failed by.
///
/// # Errors
/// What may be tried again.
async fn migrate(own: &StorageVersionMigration, row: &Arc<Resource>, cx: &ReconcileContext) -> Result<Option<Status>, Status> {
    let noted = own.status.as_ref().and_then(|status| status.resource_version.as_deref()).and_then(|version| version.parse().ok());
    let newest = noted.unwrap_or(Revision::ZERO);
    let mut continues = None;
    loop {
        let options = ListOptions { limit: PAGE, continue_token: continues.take(), ..ListOptions::default() };
        let list = list(target(row, "".into(), "".into()), options, cx).await?;
        let old = list.items.iter().filter(|object| object.revision <= newest);
        let mut writes = stream::iter(old.map(|object| write(row, object, cx))).buffer_unordered(WORKERS);
        while let Some(written) = writes.next().await {
            match written {
                // Somebody has written it, or it is gone.
                Err(status) if status.is_conflict() || status.is_not_found() => {}
                Err(status) if is_transient(&status) => return Err(status),
                Err(status) => return Ok(Some(status)),
                Ok(()) => {}
            }
        }
        if list.continue_token.is_none() {
            return Ok(None);
        }
        continues = list.continue_token;
    }
}

/// Applies nothing to an object, if it is still the same.
async fn write(row: &Arc<Resource>, object: &StoredObject, cx: &ReconcileContext) -> Result<(), Status> {
    let target = target(row, object.key.namespace.clone(), object.key.name.clone());
    let api_version = if row.group.is_empty() { target.version.to_string() } else { format!("{}/{}", row.group, target.version) };
    // Its UID keeps it from being made anew when it is gone, its version from what somebody wrote meanwhile.
    let metadata = json!({"name": &*object.key.name, "uid": object.uid().to_string(), "resourceVersion": object.revision.to_string()});
    let body = json!({"apiVersion": api_version, "kind": &*row.kind, "metadata": metadata});
    patch(target, &body, MANAGER, false, cx).await
}

/// Whether the same may succeed later.
fn is_transient(status: &Status) -> bool {
    matches!(status.code, 429 | 500 | 503 | 504)
}

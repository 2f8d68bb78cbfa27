//! The end of a definition: its objects are deleted, and it goes when none is left.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use troupe_api::{
    meta::{Cause, Object},
    resources::Resource,
    service::{DeleteOptions, Target},
    status::Status,
    stored::StoredObject,
};

use super::{
    plan::{CLEANUP_FINALIZER, Conditions},
    write,
};
use crate::apiserver::{cache::ResourceCache, server_client::ServerClient, writer::Writer};

/// Deletions in flight at one time.
const WORKERS: usize = 16;
/// How often objects that have finalizers of their own are looked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// Sees every deletion of a definition through.
pub(super) async fn follow(client: ServerClient, cache: Arc<ResourceCache>) {
    loop {
        let seen = cache.applied.get();
        let snapshot = cache.load();
        let mut waits = false;
        for definition in snapshot.objects.values().filter(|definition| is_open(definition)) {
            match step(&client, definition).await {
                Ok(done) => waits |= !done,
                Err(status) if status.is_conflict() || status.is_not_found() => waits = true,
                Err(error) => {
                    tracing::warn!(definition = %definition.key.name, %error, "cannot delete the objects of a definition, will retry");
                    waits = true;
                }
            }
        }
        let changed = cache.applied.reached(seen.next());
        match waits {
            false => changed.await,
            true => _ = tokio::time::timeout(AGAIN, changed).await,
        }
    }
}

fn is_open(definition: &StoredObject) -> bool {
    let meta = definition.meta();
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().any(|finalizer| **finalizer == *CLEANUP_FINALIZER)
}

/// Deletes what is left; says whether nothing is and the definition may go.
async fn step(client: &ServerClient, stored: &Arc<StoredObject>) -> Result<bool, Status> {
    let definition = stored.to_object();
    let (group, plural) = (definition.str(&["spec", "group"]), definition.str(&["status", "acceptedNames", "plural"]));
    let waits = match client.row(group, plural).filter(|row| row.is_custom()) {
        Some(resource) if resource.is_terminating => {
            let is_held = empty(client, &resource).await? > 0;
            if is_held && !is_in_progress(&definition) {
                let mut new = definition;
                set_terminating(client, &mut new, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
                write(client, stored, new).await?;
                return Ok(false);
            }
            is_held
        }
        // The table still has to learn that the definition goes; until then objects are made.
        Some(_) => true,
        None => is_served_soon(&definition),
    };
    if waits {
        return Ok(false);
    }
    let mut new = definition;
    set_terminating(client, &mut new, "False", "InstanceDeletionCompleted", "removed all instances");
    let finalizers: Vec<_> = new.list(&["metadata", "finalizers"]).iter().filter(|finalizer| *finalizer != CLEANUP_FINALIZER).cloned().collect();
    new.set(&["metadata", "finalizers"], finalizers);
    write(client, stored, new).await.map(|_| true)
}

/// Whether the definition says that its objects are being deleted.
fn is_in_progress(definition: &Object) -> bool {
    definition.list(&["status", "conditions"]).iter().any(|condition| condition["reason"] == "InstanceDeletionInProgress")
}

fn set_terminating(client: &ServerClient, definition: &mut Object, status: &str, reason: &str, message: &str) {
    let mut conditions = Conditions { list: definition.list(&["status", "conditions"]).to_vec(), now: client.clock.now() };
    conditions.set("Terminating", status, reason, message);
    definition.set(&["status", "conditions"], conditions.list);
}

/// Whether the table still has to learn that there is, and goes, the definition.
fn is_served_soon(definition: &Object) -> bool {
    let conditions = definition.list(&["status", "conditions"]);
    let established = conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    established && definition.list(&["spec", "versions"]).iter().any(|version| version["served"] == true)
}

/// Deletes all objects of a resource that are not going yet; says how many were there.
async fn empty(client: &ServerClient, resource: &Arc<Resource>) -> Result<usize, Status> {
    let snapshot = client.reader.settled(resource, None).await?.load();
    let target = |object: &StoredObject| Target {
        resource: resource.clone(),
        version: resource.storage.version.clone(),
        namespace: object.key.namespace.clone(),
        name: object.key.name.clone(),
        subresource: "".into(),
    };
    let going: Vec<_> = snapshot.objects.values().filter(|object| object.meta().deletion_timestamp.is_none()).map(|object| target(object)).collect();
    let options = DeleteOptions::default();
    let mut deletions = stream::iter(going).map(|target| delete(client, target, &options)).buffer_unordered(WORKERS);
    while let Some(result) = deletions.next().await {
        match result {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(snapshot.objects.len())
}

async fn delete(client: &ServerClient, target: Target, options: &DeleteOptions) -> Result<(), Status> {
    client.path.delete(&Writer::server(target, Cause::default()), options).await.map(drop)
}

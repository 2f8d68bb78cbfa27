//! Writes that several controllers do alike.

use troupe_api::{service::DeleteOptions, status::Status, stored::KubeObject};
use troupe_api_client::Api;

use crate::runtime::{
    cache::Cache,
    controller::{ReconcileContext, ReconcileError},
};

/// The object is not there (any more). A conflict says no such thing: others may have written.
pub fn is_gone(status: &Status) -> bool {
    status.is_not_found()
}

/// The namespace goes away: nothing can be made in it, and nobody needs it.
pub fn is_namespace_terminating(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// Whether people should hear of an error: not where somebody else wrote, or the server is busy.
pub fn is_failure(error: &ReconcileError) -> bool {
    !matches!(error, ReconcileError::Api(status) if status.is_conflict() || status.code == 429)
}

/// Writes an object's status; that it is gone is fine.
pub async fn write_status<K: KubeObject>(updated: &K, cache: &Cache<K>, cx: &ReconcileContext) -> Result<(), Status> {
    let api = cx.client().namespaced::<K>(updated.metadata().namespace.clone().unwrap_or_default());
    match api.update_status(updated).await {
        Ok(written) => cx.wrote(cache, &*written),
        Err(status) if is_gone(&status) => {}
        Err(status) => return Err(status),
    }
    Ok(())
}

/// Times that a status is brought over to a newer version of its object before the write gives up.
const MOST_VERSIONS: usize = 5;

/// Writes the status of an object that nobody else gives one, whatever became of the rest meanwhile: `give` puts it on
/// `seen` or, where somebody wrote labels, annotations or a spec since, on the newest version. The write takes metadata along,
/// so it must name the version that it was made of.
pub async fn write_sole_status<K: KubeObject>(seen: &K, give: impl Fn(&mut K), cache: &Cache<K>, cx: &ReconcileContext) -> Result<(), Status> {
    let meta = seen.metadata();
    let api = cx.client().namespaced::<K>(meta.namespace.clone().unwrap_or_default());
    let mut updated = seen.clone();
    for _ in 1..MOST_VERSIONS {
        give(&mut updated);
        match write_status(&updated, cache, cx).await {
            Err(status) if status.is_conflict() => {}
            settled => return settled,
        }
        let newest = api.get_opt(meta.name.as_deref().unwrap_or_default()).await?;
        // Another object of that name has a status of its own.
        let Some(newest) = newest.filter(|newest| newest.metadata().uid == meta.uid) else { return Ok(()) };
        updated = (*newest).clone();
    }
    give(&mut updated);
    write_status(&updated, cache, cx).await
}

/// Deletes an object if it still is the one with this UID; that it is gone already is fine.
pub async fn delete_with_uid<K: KubeObject>(api: &Api<K>, name: &str, uid: &str) -> Result<(), Status> {
    let options = DeleteOptions { precondition_uid: Some(uid.to_owned()), ..DeleteOptions::default() };
    match api.delete(name, options).await {
        Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
        other => other,
    }
}

//! Removes the directories of hostPath volumes, for clusters of one machine.

use std::path::Path;

use k8s_openapi::api::core::v1::PersistentVolume;
use troupe_api::meta::ObjectKey;

use super::model::{DELETABLE, in_phase};
use crate::{
    controllers::writes::delete_with_uid,
    files::remove_tree_below,
    runtime::{
        cache::Cache,
        controller::{ReconcileContext, ReconcileError},
    },
};

/// Removes what lies at `path` below [`DELETABLE`], then the volume. What fails is told by the volume, and tried again.
pub async fn delete(volume: &PersistentVolume, path: &Path, cache: &Cache<PersistentVolume>, cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let api = cx.client().all::<PersistentVolume>();
    // Somebody may have said something else of it by now.
    let is_same = |live: &PersistentVolume| live.metadata.uid == volume.metadata.uid && live.spec == volume.spec;
    let Some(live) = api.get_opt(name).await?.filter(|live| is_same(live)) else { return Ok(()) };
    if let Err(error) = remove_tree_below(Path::new(DELETABLE), path).await {
        let why = error.to_string();
        if let Some(failed) = in_phase(&live, "Failed", &why) {
            cx.wrote(cache, &*api.update_status(&failed).await?);
        }
        cx.tell(&*live, true, "VolumeFailedDelete", why.as_str());
        return Err(ReconcileError::Other(why));
    }
    let uid = live.metadata.uid.clone().unwrap_or_default();
    delete_with_uid(&api, name, &uid).await?;
    cx.deleted(cache, ObjectKey::cluster(name), uid);
    Ok(())
}

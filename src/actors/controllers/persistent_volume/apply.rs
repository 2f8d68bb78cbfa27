//! Effects: one action, one write.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use troupe_api::stored::KubeObject;
use troupe_api_client::Api;

use super::{
    host_path,
    model::{About, Action},
};
use crate::runtime::{
    cache::Cache,
    controller::{Outcome, ReconcileContext, ReconcileError},
};

/// Versions that earlier actions of a plan wrote, by UID.
#[derive(Default)]
struct Versions(HashMap<String, Option<String>>);

/// Does all of a plan, and stops at the first write that is refused: somebody else wrote, so another plan is due.
pub async fn apply(
    actions: Vec<Action>,
    claims: &Cache<PersistentVolumeClaim>,
    volumes: &Cache<PersistentVolume>,
    cx: &ReconcileContext,
) -> Result<Outcome, ReconcileError> {
    let mut versions = Versions::default();
    for action in actions {
        match action {
            Action::UpdateVolume(volume) => versions.write(*volume, false, volumes, cx).await?,
            Action::UpdateVolumeStatus(volume) => versions.write(*volume, true, volumes, cx).await?,
            Action::UpdateClaim(claim) => versions.write(*claim, false, claims, cx).await?,
            Action::UpdateClaimStatus(claim) => versions.write(*claim, true, claims, cx).await?,
            Action::DeleteHostPath { volume, path } => host_path::delete(&volume, &path, volumes, cx).await?,
            Action::Tell { about: About::Claim(claim), warning, reason, message } => cx.tell(&*claim, warning, reason, message),
            Action::Tell { about: About::Volume(volume), warning, reason, message } => cx.tell(&*volume, warning, reason, message),
        }
    }
    Ok(Outcome::Done)
}

impl Versions {
    async fn write<K: KubeObject>(&mut self, mut object: K, status: bool, cache: &Cache<K>, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let uid = object.metadata().uid.clone().unwrap_or_default();
        if let Some(version) = self.0.get(&uid) {
            object.metadata_mut().resource_version.clone_from(version);
        }
        let api: Api<K> = match object.metadata().namespace.clone() {
            Some(namespace) => cx.client().namespaced(namespace),
            None => cx.client().all(),
        };
        let written = if status { api.update_status(&object).await? } else { api.update(&object).await? };
        cx.wrote(cache, &*written);
        self.0.insert(uid, written.metadata().resource_version.clone());
        Ok(())
    }
}

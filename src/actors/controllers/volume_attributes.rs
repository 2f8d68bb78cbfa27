//! VolumeAttributesClass protection: a class that is deleted stays until no claim asks for it and no volume has it. What a class means to
//! a volume is between its claim and an external resizer.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::VolumeAttributesClass,
};
use troupe_api::{meta::ObjectKey, service::ListOptions};
use troupe_api_server::admission::VAC_FINALIZER;

use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Files claims and volumes under the classes that they name.
const BY_CLASS: &str = "volume attributes class";

/// See the module. Keys are classes.
pub struct VolumeAttributesProtection {
    classes: Cache<VolumeAttributesClass>,
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
}

/// What a claim asks for, has, and is on the way to.
fn of_claim(claim: &PersistentVolumeClaim) -> BTreeSet<&str> {
    let asked = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let has = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref());
    [asked, has, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}

fn of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref().filter(|name| !name.is_empty())
}

impl VolumeAttributesProtection {
    pub fn new(caches: &Caches) -> Self {
        let (claims, volumes): (Cache<PersistentVolumeClaim>, Cache<PersistentVolume>) = (caches.cache(), caches.cache());
        claims.add_index(BY_CLASS, |claim| of_claim(claim).into_iter().map(Arc::from).collect());
        volumes.add_index(BY_CLASS, |volume| of_volume(volume).map(Arc::from).into_iter().collect());
        VolumeAttributesProtection { classes: caches.cache(), claims, volumes }
    }

    /// Asks the API as well when the caches know of nobody: they may be behind.
    async fn is_used(&self, class: &str, cx: &ReconcileContext) -> Result<bool, ReconcileError> {
        if !self.claims.by_index(BY_CLASS, class).is_empty() || !self.volumes.by_index(BY_CLASS, class).is_empty() {
            return Ok(true);
        }
        let claims = cx.client().all::<PersistentVolumeClaim>().list(ListOptions::default()).await?;
        if claims.items.iter().any(|claim| of_claim(claim).contains(class)) {
            return Ok(true);
        }
        let volumes = cx.client().all::<PersistentVolume>().list(ListOptions::default()).await?;
        Ok(volumes.items.iter().any(|volume| of_volume(volume) == Some(class)))
    }
}

impl Controller for VolumeAttributesProtection {
    const NAME: &'static str = "volumeattributesclass-protection-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<VolumeAttributesClass>();
        // Whoever needs one no more may have been the last.
        watches
            .map::<PersistentVolumeClaim>(|change| change.before().into_iter().flat_map(|claim| of_claim(claim)).map(ObjectKey::cluster).collect());
        watches.map::<PersistentVolume>(|change| change.before().and_then(|volume| of_volume(volume)).map(ObjectKey::cluster).into_iter().collect());
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(class) = self.classes.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let has = class.metadata.finalizers.iter().flatten().any(|held| held == VAC_FINALIZER);
        let is_deleted = class.metadata.deletion_timestamp.is_some();
        if is_deleted != has || (has && self.is_used(&key.name, cx).await?) {
            return Ok(Outcome::Done);
        }
        let mut changed = (*class).clone();
        let finalizers = changed.metadata.finalizers.get_or_insert_default();
        finalizers.retain(|held| held != VAC_FINALIZER);
        if !has {
            finalizers.push(VAC_FINALIZER.to_owned());
        }
        match cx.client().all::<VolumeAttributesClass>().update(&changed).await {
            Ok(written) => cx.wrote(&self.classes, &*written),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}

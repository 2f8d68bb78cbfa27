//! The PersistentVolume controller: binds claims and volumes to each other, asks provisioners for volumes, and says what becomes of
//! volumes whose claims are gone.
//!
//! Upstream's one controller with two queues is two here: [`ClaimBinder`] has claims for keys, [`VolumeBinder`] volumes. Both write
//! both kinds. A binding begins with the volume, whose version is compared in the store: of two claims that chose it one loses, and
//! chooses again.

mod apply;
pub mod claim;
mod host_path;
pub mod metrics;
mod model;
#[cfg(test)]
mod tests;
pub mod volume;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use troupe_api::meta::ObjectKey;

use self::metrics::{Counted, UnderWay};
pub use self::model::{About, Action};
use super::pods::{is_active, node_of};
use crate::{
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
    storage::{
        BIND_COMPLETED, annotation,
        binding::claim_uid,
        claim_of_volume, claim_phase, class_of_claim, class_of_volume, default_class, is_default_class, operations, reclaim_policy,
        users::{index_by_claim, users_of},
        volume_name, volume_phase,
    },
};

/// Files claims under the volume that they name.
const BY_VOLUME: &str = "names volume";
/// Files claims that have no volume under their class.
const UNBOUND: &str = "unbound of class";
/// Files volumes under `namespace/name` of their claim.
const BY_CLAIM: &str = "of claim";
/// Files volumes that nobody claims under their class.
const AVAILABLE: &str = "unclaimed of class";

/// Binds claims. Keys are claims.
pub struct ClaimBinder {
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    pods: Cache<Pod>,
    /// By claim.
    provisioning: UnderWay,
    _counted: Arc<Counted>,
}

/// Keeps the phases of volumes and reclaims them. Keys are volumes.
pub struct VolumeBinder {
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    pods: Cache<Pod>,
    /// By volume.
    deleting: UnderWay,
}

impl ClaimBinder {
    pub fn new(caches: &Caches) -> Self {
        let (claims, volumes) = (claims(caches), volumes(caches));
        ClaimBinder {
            _counted: Counted::begin(&volumes, &claims),
            claims,
            volumes,
            classes: caches.cache(),
            pods: index_by_claim(caches.cache()),
            provisioning: UnderWay::new("provision"),
        }
    }
}

impl VolumeBinder {
    pub fn new(caches: &Caches) -> Self {
        VolumeBinder {
            claims: claims(caches),
            volumes: volumes(caches),
            classes: caches.cache(),
            pods: index_by_claim(caches.cache()),
            deleting: UnderWay::new("delete"),
        }
    }
}

fn claims(caches: &Caches) -> Cache<PersistentVolumeClaim> {
    let claims: Cache<PersistentVolumeClaim> = caches.cache();
    claims.add_index(BY_VOLUME, |claim| Some(volume_name(claim)).filter(|name| !name.is_empty()).map(Arc::from).into_iter().collect());
    claims.add_index(UNBOUND, |claim| {
        let is_unbound = volume_name(claim).is_empty() && annotation(&claim.metadata, BIND_COMPLETED).is_none();
        is_unbound.then(|| class_of_claim(claim).into()).into_iter().collect()
    });
    claims
}

fn volumes(caches: &Caches) -> Cache<PersistentVolume> {
    let volumes: Cache<PersistentVolume> = caches.cache();
    volumes.add_index(BY_CLAIM, |volume| claim_of_volume(volume).map(Arc::from).into_iter().collect());
    volumes.add_index(AVAILABLE, |volume| {
        let is_unclaimed = claim_of_volume(volume).is_none();
        is_unclaimed.then(|| class_of_volume(volume).into()).into_iter().collect()
    });
    volumes
}

fn keys_under(claims: &Cache<PersistentVolumeClaim>, index: &str, value: &str) -> Vec<ObjectKey> {
    claims.index_keys_where(index, value, |filed| filed == value)
}

/// Names of pods that may still run and use the claim.
fn users(pods: &Cache<Pod>, claim: &ObjectKey, wanted: impl Fn(&Pod) -> bool) -> Vec<String> {
    users_of(pods, claim).iter().filter(|pod| is_active(pod) && wanted(pod)).filter_map(|pod| pod.metadata.name.clone()).collect()
}

impl Controller for ClaimBinder {
    const NAME: &'static str = "persistentvolume-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<PersistentVolumeClaim>();
        let claims = self.claims.clone();
        watches.map::<PersistentVolume>(move |change| {
            let mut keys: Vec<ObjectKey> = change.versions().filter_map(|volume| claim_key(volume)).collect();
            keys.extend(keys_under(&claims, BY_VOLUME, &change.key.name));
            if let Some(volume) = change.after().filter(|volume| volume_phase(volume) == "Available" && claim_of_volume(volume).is_none()) {
                keys.extend(keys_under(&claims, UNBOUND, class_of_volume(volume)));
            }
            keys
        });
        let claims = self.claims.clone();
        watches.map::<StorageClass>(move |change| {
            let Some(class) = change.after() else { return Vec::new() };
            let mut keys = keys_under(&claims, UNBOUND, &change.key.name);
            if is_default_class(class) {
                keys.extend(keys_under(&claims, UNBOUND, ""));
            }
            keys
        });
        watches.reads::<Pod>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(claim) = self.claims.get(key).map(|cached| cached.object) else {
            self.provisioning.forget(key);
            return Ok(Outcome::Done);
        };
        let class = class_of_claim(&claim);
        let named = Some(volume_name(&claim)).filter(|name| !name.is_empty()).and_then(|name| self.volumes.get(&ObjectKey::cluster(name)));
        let mut candidates = self.volumes.by_index(BY_CLAIM, &key.to_string());
        candidates.extend(self.volumes.by_index(AVAILABLE, class));
        let classes = self.classes.list("");
        let waiting = users(&self.pods, key, |pod| node_of(pod).is_none());
        let view = claim::View {
            claim: &claim,
            named: named.as_ref().map(|cached| &*cached.object),
            candidates: &candidates,
            class: classes.iter().find(|known| known.metadata.name.as_deref() == Some(class)).map(|class| &**class),
            default_class: default_class(&classes).and_then(|class| class.metadata.name.as_deref()),
            waiting_pods: &waiting,
        };
        match view.awaited() {
            Some(provisioner) => self.provisioning.begin(key, || provisioner.to_owned(), cx.system().instant()),
            None if claim_phase(&claim) == "Bound" => {
                self.provisioning.end(key, cx.system().instant());
            }
            None => {}
        }
        let applied = apply::apply(claim::plan(&view), &self.claims, &self.volumes, cx).await;
        if applied.is_err() {
            self.provisioning.failed(key);
        }
        applied
    }
}

impl Controller for VolumeBinder {
    const NAME: &'static str = "persistentvolume-controller-volumes";
    const EVENT_SOURCE: Option<&'static str> = Some("persistentvolume-controller");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<PersistentVolume>();
        let volumes = self.volumes.clone();
        watches.map::<PersistentVolumeClaim>(move |change| {
            let named = change.versions().map(|claim| volume_name(claim)).filter(|name| !name.is_empty()).map(ObjectKey::cluster);
            let key = change.key.to_string();
            named.chain(volumes.index_keys_where(BY_CLAIM, &key, |filed| filed == key)).collect()
        });
        watches.reads::<Pod>();
        watches.reads::<StorageClass>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(volume) = self.volumes.get(key).map(|cached| cached.object) else {
            self.deleting.end(key, cx.system().instant());
            return Ok(Outcome::Done);
        };
        let claim = self.claim_of(&volume, cx).await?;
        let users = claim_key(&volume).map(|claim| users(&self.pods, &claim, |_| true)).unwrap_or_default();
        if volume_phase(&volume) == "Released" && reclaim_policy(&volume) == "Delete" {
            self.deleting.begin(key, || self.deleter_of(&volume), cx.system().instant());
        }
        let applied = apply::apply(volume::plan(&volume, claim.as_deref(), &users), &self.claims, &self.volumes, cx).await;
        if applied.is_err() {
            self.deleting.failed(key);
        }
        applied
    }
}

impl VolumeBinder {
    /// Who deletes a volume: the plugin of those whose directory is removed here, of others the provisioner of their class.
    fn deleter_of(&self, volume: &PersistentVolume) -> String {
        if volume.spec.as_ref().is_some_and(|spec| spec.host_path.is_some()) {
            return operations::plugin_of(volume);
        }
        let class = self.classes.get(&ObjectKey::cluster(class_of_volume(volume)));
        class.map_or_else(|| operations::UNKNOWN_PLUGIN.to_owned(), |class| class.object.provisioner.clone())
    }

    /// The claim that a volume is bound to; asks the API before one is taken for gone: the cache may be behind.
    async fn claim_of(&self, volume: &PersistentVolume, cx: &ReconcileContext) -> Result<Option<Arc<PersistentVolumeClaim>>, ReconcileError> {
        let Some(key) = claim_key(volume) else { return Ok(None) };
        let uid = claim_uid(volume);
        let cached = self.claims.get(&key).map(|cached| cached.object);
        let is_meant = |claim: &Arc<PersistentVolumeClaim>| claim.metadata.uid.as_deref() == Some(uid);
        let is_settled = matches!(volume_phase(volume), "Released" | "Failed");
        if uid.is_empty() || cached.as_ref().is_some_and(is_meant) || (cached.is_none() && is_settled) {
            return Ok(cached.filter(is_meant));
        }
        let live = cx.client().namespaced::<PersistentVolumeClaim>(key.namespace.clone()).get_opt(&key.name).await?;
        Ok(live.filter(is_meant))
    }
}

/// The key of the claim that a volume refers to.
fn claim_key(volume: &PersistentVolume) -> Option<ObjectKey> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(ObjectKey::new(claim.namespace.as_deref()?, claim.name.as_deref()?))
}

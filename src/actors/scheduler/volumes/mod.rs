//! Where a pod's claims let it run, and binding them once a node is chosen.
//!
//! [`choose`] is pure: what a pod's claims are, which nodes will do, and which volumes it would take there. [`bind`] writes that and
//! waits until the controller, or a provisioner, has done its part.

pub mod bind;
pub mod choose;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use troupe_api::meta::ObjectKey;

pub use self::choose::{Choice, PodVolumes};
use super::node_matching::selector_matches;
use crate::{
    runtime::cache::{Cache, Caches},
    storage::{
        claim_of_volume, class_of_volume,
        users::{index_by_claim, user_keys},
    },
};

/// Files volumes that nobody uses, or that are kept for a claim, under their class.
const BY_CLASS: &str = "of class";

/// Whether the volume can be reached from the node.
pub fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let required = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    required.is_none_or(|selector| selector_matches(selector, node))
}

/// The objects that decisions about volumes are made by.
pub trait Storage {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>>;
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>>;
    fn class(&self, name: &str) -> Option<Arc<StorageClass>>;
    /// Volumes of a class that may be free.
    fn volumes_of_class(&self, class: &str) -> Vec<Arc<PersistentVolume>>;
    /// The pods that use a claim, wherever they are.
    fn users(&self, claim: &ObjectKey) -> Vec<ObjectKey>;
}

/// The same out of caches. Cheap to clone.
#[derive(Clone)]
pub struct StorageCaches {
    pub claims: Cache<PersistentVolumeClaim>,
    pub volumes: Cache<PersistentVolume>,
    pub classes: Cache<StorageClass>,
    pub pods: Cache<Pod>,
}

impl StorageCaches {
    pub fn new(caches: &Caches) -> Self {
        let volumes: Cache<PersistentVolume> = caches.cache();
        volumes.add_index(BY_CLASS, |volume| {
            let is_bound = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).is_some_and(|claim| claim.uid.is_some());
            let may_be_free = claim_of_volume(volume).is_none() || !is_bound;
            may_be_free.then(|| class_of_volume(volume).into()).into_iter().collect()
        });
        StorageCaches { claims: caches.cache(), volumes, classes: caches.cache(), pods: index_by_claim(caches.cache()) }
    }
}

impl Storage for StorageCaches {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.get(&ObjectKey::new(namespace, name)).map(|cached| cached.object)
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(&ObjectKey::cluster(name)).map(|cached| cached.object)
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.get(&ObjectKey::cluster(name)).map(|cached| cached.object)
    }

    fn volumes_of_class(&self, class: &str) -> Vec<Arc<PersistentVolume>> {
        self.volumes.by_index(BY_CLASS, class)
    }

    fn users(&self, claim: &ObjectKey) -> Vec<ObjectKey> {
        user_keys(&self.pods, claim)
    }
}

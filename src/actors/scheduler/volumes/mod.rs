//! Where a pod's claims let it run, and binding them once a node is chosen.
//!
//! [`choose`] is pure: what a pod's claims are, which nodes will do, and which volumes it would take there. [`assumed`] keeps what was
//! chosen from other pods until it is written. [`bind`] writes it and waits until the controller, or a provisioner, has done its part.

pub mod assumed;
pub mod bind;
pub mod choose;
pub mod limits;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment},
};
use troupe_api::meta::ObjectKey;

use self::assumed::Assumed;
pub use self::choose::{Choice, PodVolumes};
use super::node_matching::selector_matches;
use crate::{
    runtime::cache::{Cache, Caches},
    storage::{claim_of_volume, class_of_volume},
};

/// Files volumes that nobody uses, or that are kept for a claim, under their class; and how much room there is for more of it.
const BY_CLASS: &str = "of class";
/// Files attachments under their node.
const BY_NODE: &str = "of node";

/// Whether the volume can be reached from the node.
pub fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let required = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    required.is_none_or(|selector| selector_matches(selector, node))
}

/// The key of a pod.
pub fn pod_key(pod: &Pod) -> ObjectKey {
    ObjectKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

/// The objects that decisions about volumes are made by.
pub trait Storage {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>>;
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>>;
    fn class(&self, name: &str) -> Option<Arc<StorageClass>>;
    /// Volumes of a class that may be free.
    fn volumes_of_class(&self, class: &str) -> Vec<Arc<PersistentVolume>>;
    /// What CSI drivers say of a node.
    fn csi_node(&self, name: &str) -> Option<Arc<CSINode>>;
    /// What is known of a CSI driver.
    fn driver(&self, name: &str) -> Option<Arc<CSIDriver>>;
    /// What a driver that tells how much room it has says for a class; `None` where it does not tell.
    fn capacities(&self, provisioner: &str, class: &str) -> Option<Vec<Arc<CSIStorageCapacity>>>;
    /// Attachments of volumes to a node.
    fn attachments(&self, node: &str) -> Vec<Arc<VolumeAttachment>>;
}

/// The same out of caches, as it will be when what was chosen is written. Cheap to clone.
#[derive(Clone)]
pub struct StorageCaches {
    pub claims: Cache<PersistentVolumeClaim>,
    pub volumes: Cache<PersistentVolume>,
    pub classes: Cache<StorageClass>,
    pub pods: Cache<Pod>,
    pub csi_nodes: Cache<CSINode>,
    pub attachments: Cache<VolumeAttachment>,
    pub drivers: Cache<CSIDriver>,
    pub capacities: Cache<CSIStorageCapacity>,
    pub assumed: Arc<Assumed>,
}

impl StorageCaches {
    pub fn new(caches: &Caches) -> Self {
        let volumes: Cache<PersistentVolume> = caches.cache();
        volumes.add_index(BY_CLASS, |volume| {
            let is_bound = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).is_some_and(|claim| claim.uid.is_some());
            let may_be_free = claim_of_volume(volume).is_none() || !is_bound;
            may_be_free.then(|| class_of_volume(volume).into()).into_iter().collect()
        });
        let attachments: Cache<VolumeAttachment> = caches.cache();
        attachments.add_index(BY_NODE, |attachment| vec![attachment.spec.node_name.as_str().into()]);
        let capacities: Cache<CSIStorageCapacity> = caches.cache();
        capacities.add_index(BY_CLASS, |capacity| vec![capacity.storage_class_name.as_str().into()]);
        let (claims, classes, csi_nodes) = (caches.cache(), caches.cache(), caches.cache());
        let (pods, drivers) = (caches.cache(), caches.cache());
        StorageCaches { claims, volumes, classes, pods, csi_nodes, attachments, drivers, capacities, assumed: Arc::default() }
    }
}

impl Storage for StorageCaches {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.get(&ObjectKey::new(namespace, name)).map(|cached| self.assumed.claim(cached.object))
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(&ObjectKey::cluster(name)).map(|cached| self.assumed.volume(cached.object))
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.get(&ObjectKey::cluster(name)).map(|cached| cached.object)
    }

    fn volumes_of_class(&self, class: &str) -> Vec<Arc<PersistentVolume>> {
        self.volumes.by_index(BY_CLASS, class).into_iter().map(|volume| self.assumed.volume(volume)).collect()
    }

    fn csi_node(&self, name: &str) -> Option<Arc<CSINode>> {
        self.csi_nodes.get(&ObjectKey::cluster(name)).map(|cached| cached.object)
    }

    fn driver(&self, name: &str) -> Option<Arc<CSIDriver>> {
        self.drivers.get(&ObjectKey::cluster(name)).map(|cached| cached.object)
    }

    fn capacities(&self, provisioner: &str, class: &str) -> Option<Vec<Arc<CSIStorageCapacity>>> {
        let driver = self.driver(provisioner)?;
        (driver.spec.storage_capacity == Some(true)).then(|| self.capacities.by_index(BY_CLASS, class))
    }

    fn attachments(&self, node: &str) -> Vec<Arc<VolumeAttachment>> {
        self.attachments.by_index(BY_NODE, node)
    }
}

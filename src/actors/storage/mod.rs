//! What claims, volumes and storage classes say of each other, as controllers, scheduler and kubelet read it.
//!
//! Annotations and rules are upstream's (`component-helpers/storage/volume`), so that external provisioners work here, too.

pub mod binding;
pub mod csi;
pub mod matching;
pub mod operations;
#[cfg(test)]
mod tests;
pub mod users;

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::meta::Quantity;

/// On a claim: binding is complete. On its absence the claim is taken for one that is yet to be bound.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On claims and volumes: the controller, not a person, has bound it.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: the node for which a volume is to be made; the scheduler writes it.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: the provisioner that made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume: the driver that an in-tree plugin's volume belongs to by now.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// On a claim: the provisioner that is to make a volume for it.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same under its older name, which provisioners still read.
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// The provisioner of classes whose volumes people make.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// What the provisioners are called that upstream has built in, and this cluster has not.
pub const IN_TREE: &str = "kubernetes.io/";

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS: [&str; 2] = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// The value of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The class that a claim asks for; empty for none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let named = || claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, CLASS_ANNOTATION).or_else(named).unwrap_or_default()
}

/// Whether a claim says anything of its class; the empty class is said, too.
pub fn has_class(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, CLASS_ANNOTATION).is_some() || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}

/// The class of a volume; empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = || volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, CLASS_ANNOTATION).or_else(named).unwrap_or_default()
}

/// Whether volumes of the class are bound, or made, only for a pod that is to run on a node.
pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Whether claims that name no class get this one.
pub fn is_default_class(class: &StorageClass) -> bool {
    DEFAULT_CLASS.iter().any(|name| annotation(&class.metadata, name) == Some("true"))
}

/// The class of claims that name none: of several the newest, then the first by name.
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let rank = |class: &&Arc<StorageClass>| {
        let made = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(made), class.metadata.name.clone())
    };
    classes.iter().filter(|class| is_default_class(class)).min_by_key(rank)
}

/// The volume that a claim names; empty while it names none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// Whether both sides know of each other, as far as the claim tells.
pub fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(&claim.metadata, BIND_COMPLETED).is_some()
}

/// The phase that a claim's status tells.
pub fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The phase that a volume's status tells.
pub fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// What becomes of a volume whose claim is gone.
pub fn reclaim_policy(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// `namespace/name` of the claim that a volume is bound to, or kept for.
pub fn claim_of_volume(volume: &PersistentVolume) -> Option<String> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(format!("{}/{}", claim.namespace.as_deref().unwrap_or_default(), claim.name.as_deref().unwrap_or_default()))
}

/// Bytes of a volume.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    let listed = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    listed.and_then(|amount| Quantity::parse(&amount.0).ok()).unwrap_or_default()
}

/// Bytes that a claim asks for.
pub fn request(claim: &PersistentVolumeClaim) -> Quantity {
    let listed = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    listed.and_then(|amount| Quantity::parse(&amount.0).ok()).unwrap_or_default()
}

/// A claim that one of a pod's volumes stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    pub name: String,
    /// It is made for this pod (a generic ephemeral volume).
    pub ephemeral: bool,
}

/// The claim that a pod's volume stands for.
pub fn claim_of(pod: &Pod, volume: &Volume) -> Option<PodClaim> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(PodClaim { name: source.claim_name.clone(), ephemeral: false });
    }
    volume.ephemeral.as_ref()?;
    let name = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
    Some(PodClaim { name, ephemeral: true })
}

/// The claims of all volumes of a pod.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = PodClaim> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).filter_map(|volume| claim_of(pod, volume))
}

/// Whether a claim was made for this pod.
///
/// # Errors
/// Upstream's words for a claim of that name that is somebody else's.
pub fn is_for_pod(claim: &PersistentVolumeClaim, pod: &Pod) -> Result<(), String> {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref()) {
        return Ok(());
    }
    let key = |meta: &ObjectMeta| format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    Err(format!("PVC {} was not created for pod {} (pod is not owner)", key(&claim.metadata), key(&pod.metadata)))
}

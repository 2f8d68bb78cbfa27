//! How a volume says whose it is. Pure.

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use troupe_api::stored::KubeObject;

use super::{BOUND_BY_CONTROLLER, matching::is_bound_to};

/// The UID of the claim that a volume is bound to; empty while it is only kept for whoever has the name.
pub fn claim_uid(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()?.uid.as_deref()).unwrap_or_default()
}

/// Sets an annotation whose value does not matter, where it is missing.
pub fn annotate<K: KubeObject>(object: &mut K, name: &str) {
    object.metadata_mut().annotations.get_or_insert_default().entry(name.to_owned()).or_insert_with(|| "yes".into());
}

/// A reference to a claim, as volumes carry it.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    let meta = &claim.metadata;
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The volume bound to the claim; `None` if it is already.
pub fn bound_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let mut bound = volume.clone();
    if claim_uid(volume).is_empty() || !is_bound_to(volume, claim) {
        bound.spec.get_or_insert_default().claim_ref = Some(reference(claim));
    }
    if !is_bound_to(volume, claim) {
        annotate(&mut bound, BOUND_BY_CONTROLLER);
    }
    (bound != *volume).then_some(bound)
}

//! Claims of pods: which they are, and who may use them (`k8s.io/dynamic-resource-allocation/resourceclaim`).

use k8s_openapi::{
    api::{
        core::v1::{Pod, PodExtendedResourceClaimStatus, PodResourceClaim},
        resource::v1::{AllocationResult, DeviceRequestAllocationResult, ResourceClaim, ResourceClaimConsumerReference},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use thiserror::Error;
use troupe_api::meta::ObjectKey;

/// Keeps an allocated claim until nobody uses it.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// On a claim that was made of a template: the name that its pod has for it.
pub const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// How many may use a claim at once (`ResourceClaimReservedForMaxSize`).
pub const MOST_CONSUMERS: usize = 256;

/// Why it is not known which claim a pod means.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("pod \"{0}\": ResourceClaim not created yet")]
    NotCreated(String),
    #[error("pod \"{0}\", spec.resourceClaim \"{1}\": none of the supported fields are set")]
    Unsupported(String, String),
}

/// The claims that a pod asks for.
pub fn claims_of(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// The key of an object in a namespace.
pub fn key_of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> ObjectKey {
    ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// The name of a claim that a pod asks for, and whether it must be the pod's own; `None` where there is none on purpose.
///
/// # Errors
/// It is not known yet.
pub fn claim_name<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> Result<Option<(&'a str, bool)>, NameError> {
    let shown = || key_of(&pod.metadata).to_string();
    match claim {
        PodResourceClaim { resource_claim_name: Some(name), .. } => Ok(Some((name, false))),
        PodResourceClaim { resource_claim_template_name: Some(_), .. } => {
            let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref()).unwrap_or_default();
            let known = statuses.iter().find(|status| status.name == claim.name).ok_or_else(|| NameError::NotCreated(shown()))?;
            Ok(known.resource_claim_name.as_deref().map(|name| (name, true)))
        }
        _ => Err(NameError::Unsupported(shown(), claim.name.clone())),
    }
}

/// The names of the claims of a pod, as far as they are known.
pub fn names_of_claims(pod: &Pod) -> impl Iterator<Item = &str> {
    let named = claims_of(pod).iter().filter_map(|claim| Some(claim_name(pod, claim).ok()??.0));
    named.chain(extended_claim(pod).map(|extended| extended.resource_claim_name.as_str()))
}

/// The claim that was made for what a pod asks for as extended resources.
pub fn extended_claim(pod: &Pod) -> Option<&PodExtendedResourceClaimStatus> {
    pod.status.as_ref()?.extended_resource_claim_status.as_ref()
}

/// # Errors
/// The claim was made for somebody else.
pub fn is_for_pod(pod: &Pod, claim: &ResourceClaim) -> Result<(), String> {
    let owner = claim.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    if owner.is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref()) {
        return Ok(());
    }
    Err(format!("ResourceClaim {} was not created for Pod {} (Pod is not owner)", key_of(&claim.metadata), key_of(&pod.metadata)))
}

/// Who uses a claim.
pub fn reserved_for(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default()
}

/// Whether a pod may use a claim.
pub fn is_reserved_for(pod: &Pod, claim: &ResourceClaim) -> bool {
    reserved_for(claim).iter().any(|consumer| Some(&consumer.uid) == pod.metadata.uid.as_ref())
}

/// Whether one more may use a claim.
pub fn can_be_reserved(claim: &ResourceClaim) -> bool {
    reserved_for(claim).len() < MOST_CONSUMERS
}

/// A pod as the user of a claim.
pub fn consumer(pod: &Pod) -> ResourceClaimConsumerReference {
    ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".into(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

/// What a claim got.
pub fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

/// The devices that a claim got.
pub fn results(claim: &ResourceClaim) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    allocation(claim).and_then(|allocation| allocation.devices.as_ref()?.results.as_ref()).into_iter().flatten()
}

/// The pod that a claim is made for, as its owner.
pub fn claim_owner(pod: &Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

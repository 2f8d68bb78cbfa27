//! What pods and claims lack. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{Pod, PodResourceClaim},
        resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::{
    devices::{NameError, POD_CLAIM, allocation, can_be_reserved, claim_name, claim_owner, claims_of, is_for_pod, is_reserved_for},
    pod_phase::is_finished,
};

/// What a pod lacks of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Lacking {
    Nothing,
    /// It is there, and the pod does not say so.
    Name(String),
    /// It has to be made.
    Claim(Box<ResourceClaim>),
}

/// The longest name that is generated, without the random letters and the hyphen before them.
const LONGEST_BASE: usize = 57;

/// The pod that a claim was made for.
pub fn owned_by(claim: &ResourceClaim) -> Option<&OwnerReference> {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true) && owner.api_version == "v1" && owner.kind == "Pod")
}

/// What a pod lacks of one of its claims, where it owns these.
///
/// # Errors
/// The claim cannot be made.
pub fn lacking(
    pod: &Pod,
    asked: &PodResourceClaim,
    claim: &dyn Fn(&str) -> Option<Arc<ResourceClaim>>,
    owned: &[Arc<ResourceClaim>],
    template: &dyn Fn(&str) -> Option<Arc<ResourceClaimTemplate>>,
) -> Result<Lacking, String> {
    match claim_name(pod, asked) {
        Err(NameError::NotCreated(_)) => {}
        Err(why) => return Err(format!("checking for claim before creating it: {why}")),
        Ok(None) => return Ok(Lacking::Nothing),
        // One that was made for the pod may be gone, or somebody else's by now.
        Ok(Some((name, own))) => {
            if claim(name).is_some_and(|claim| !own || is_for_pod(pod, &claim).is_ok()) {
                return Ok(Lacking::Nothing);
            }
        }
    }
    let Some(name) = &asked.resource_claim_template_name else { return Ok(Lacking::Nothing) };
    let is_it = |claim: &&Arc<ResourceClaim>| {
        let annotation = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(POD_CLAIM));
        annotation == Some(&asked.name) && claim.metadata.deletion_timestamp.is_none()
    };
    if let Some(known) = owned.iter().find(is_it) {
        return Ok(Lacking::Name(known.metadata.name.clone().unwrap_or_default()));
    }
    let missing = || format!("resource claim template {name:?}: resourceclaimtemplate.resource.k8s.io {name:?} not found");
    Ok(Lacking::Claim(Box::new(made(pod, asked, &*template(name).ok_or_else(missing)?))))
}

fn made(pod: &Pod, asked: &PodResourceClaim, template: &ResourceClaimTemplate) -> ResourceClaim {
    let meta = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM.to_owned(), asked.name.clone());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(base_name(name, &asked.name)),
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![claim_owner(pod)]),
            annotations: Some(annotations),
            labels: meta.labels,
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}

/// What a generated name begins with; of long names both parts are cut by the same share.
fn base_name(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= LONGEST_BASE {
        return whole;
    }
    let cut = |part: &str| part[..part.floor_char_boundary(part.len() * LONGEST_BASE / whole.len())].to_owned();
    format!("{}-{}", cut(pod), cut(claim))
}

/// The claims that a pod on a node uses without being entered in them.
pub fn reservations_of(pod: &Pod, claim: &dyn Fn(&str) -> Option<Arc<ResourceClaim>>) -> Vec<Arc<ResourceClaim>> {
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref().is_some_and(|node| !node.is_empty()));
    if !is_placed || is_finished(pod) {
        return Vec::new();
    }
    let named = claims_of(pod).iter().filter_map(|asked| claim_name(pod, asked).ok()?);
    let known = named.filter_map(|(name, own)| claim(name).filter(|claim| !own || is_for_pod(pod, claim).is_ok()));
    known.filter(|claim| allocation(claim).is_some() && !is_reserved_for(pod, claim) && can_be_reserved(claim)).collect()
}

/// Whether a pod will not run (any more).
pub fn is_done(pod: &Pod) -> bool {
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref().is_some_and(|node| !node.is_empty()));
    is_finished(pod) || pod.metadata.deletion_timestamp.is_some() && !is_placed
}

/// Whether the user of a claim is a pod.
pub fn is_pod(consumer: &ResourceClaimConsumerReference) -> bool {
    consumer.api_group.as_deref().unwrap_or_default().is_empty() && consumer.resource == "pods"
}

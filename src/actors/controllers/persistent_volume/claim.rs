//! What to do about a claim. Pure.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};

use super::model::{Action, bind, claim_in_phase, tell_claim};
use crate::storage::{
    BETA_STORAGE_PROVISIONER, BIND_COMPLETED, IN_TREE, SELECTED_NODE, STORAGE_PROVISIONER, annotation,
    binding::claim_uid,
    claim_phase, class_of_claim, has_class,
    matching::{best_match_by_access, is_bound_to, misfit},
    volume_name, waits_for_consumer,
};

/// A claim with all that decides what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub claim: &'a PersistentVolumeClaim,
    /// The volume that the claim names, if it exists.
    pub named: Option<&'a PersistentVolume>,
    /// Volumes that are kept for the claim, and unclaimed ones of its class.
    pub candidates: &'a [Arc<PersistentVolume>],
    /// The claim's class, if it exists.
    pub class: Option<&'a StorageClass>,
    pub default_class: Option<&'a str>,
    /// Pods that use the claim and have no node.
    pub waiting_pods: &'a [String],
}

impl<'a> View<'a> {
    /// The provisioner that was asked for a volume, while there is none.
    pub fn awaited(&self) -> Option<&'a str> {
        let provisioner = self.class?.provisioner.as_str();
        let is_asked = annotation(&self.claim.metadata, STORAGE_PROVISIONER) == Some(provisioner);
        let has_none = volume_name(self.claim).is_empty() && annotation(&self.claim.metadata, BIND_COMPLETED).is_none();
        (is_asked && has_none).then_some(provisioner)
    }
}

/// Plans the next steps for a claim.
pub fn plan(view: &View<'_>) -> Vec<Action> {
    match (annotation(&view.claim.metadata, BIND_COMPLETED).is_some(), volume_name(view.claim).is_empty()) {
        (true, _) => bound(view),
        (false, true) => unbound(view),
        (false, false) => by_name(view),
    }
}

/// The claim was bound before.
fn bound(view: &View<'_>) -> Vec<Action> {
    let claim = view.claim;
    if volume_name(claim).is_empty() {
        return lost(claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    }
    let Some(volume) = view.named else {
        return lost(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    let is_unclaimed = volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none());
    if is_unclaimed || Some(claim_uid(volume)) == claim.metadata.uid.as_deref() {
        return bind(volume, claim);
    }
    lost(claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

fn lost(claim: &PersistentVolumeClaim, reason: &'static str, message: &str) -> Vec<Action> {
    if claim_phase(claim) == "Lost" {
        return Vec::new();
    }
    let event = tell_claim(claim, true, reason, message);
    claim_in_phase(claim, "Lost", None).map(|claim| Action::UpdateClaimStatus(Box::new(claim))).into_iter().chain([event]).collect()
}

/// Writes the phase of a claim that waits, if it says anything else.
fn pending(claim: &PersistentVolumeClaim) -> Option<Action> {
    claim_in_phase(claim, "Pending", None).map(|claim| Action::UpdateClaimStatus(Box::new(claim)))
}

fn waiting(event: Action, claim: &PersistentVolumeClaim) -> Vec<Action> {
    [event].into_iter().chain(pending(claim)).collect()
}

/// Any volume will do that fits.
fn unbound(view: &View<'_>) -> Vec<Action> {
    let claim = view.claim;
    let delayed = view.class.is_some_and(waits_for_consumer);
    if let Some(volume) = best_match_by_access(claim, view.candidates, delayed) {
        return bind(volume, claim);
    }
    if let Some(default) = view.default_class.filter(|_| !has_class(claim)) {
        let mut classed = claim.clone();
        classed.spec.get_or_insert_default().storage_class_name = Some(default.to_owned());
        return vec![Action::UpdateClaim(Box::new(classed))];
    }
    if delayed && annotation(&claim.metadata, SELECTED_NODE).is_none() {
        return waiting(consumer_missing(claim, view.waiting_pods), claim);
    }
    if class_of_claim(claim).is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return waiting(tell_claim(claim, false, "FailedBinding", message), claim);
    }
    provision(view)
}

fn consumer_missing(claim: &PersistentVolumeClaim, pods: &[String]) -> Action {
    match pods {
        [] => tell_claim(claim, false, "WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        [pod] => tell_claim(claim, false, "WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => tell_claim(claim, false, "WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
    }
}

/// Asks the provisioner of the claim's class for a volume.
fn provision(view: &View<'_>) -> Vec<Action> {
    let claim = view.claim;
    let Some(class) = view.class else {
        let message = format!("storageclass.storage.k8s.io {:?} not found", class_of_claim(claim));
        return vec![tell_claim(claim, true, "ProvisioningFailed", message)];
    };
    let provisioner = class.provisioner.as_str();
    if provisioner.starts_with(IN_TREE) {
        return vec![tell_claim(claim, true, "ProvisioningFailed", format!("no volume plugin matched name: {provisioner}"))];
    }
    let mut actions = Vec::new();
    if annotation(&claim.metadata, STORAGE_PROVISIONER) != Some(provisioner) {
        let mut asked = claim.clone();
        let annotations = asked.metadata.annotations.get_or_insert_default();
        for name in [STORAGE_PROVISIONER, BETA_STORAGE_PROVISIONER] {
            annotations.insert(name.to_owned(), provisioner.to_owned());
        }
        actions.push(Action::UpdateClaim(Box::new(asked)));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume \
         creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    actions.push(tell_claim(claim, false, "ExternalProvisioning", message));
    actions
}

/// The claim names its volume.
fn by_name(view: &View<'_>) -> Vec<Action> {
    let claim = view.claim;
    let Some(volume) = view.named else { return pending(claim).into_iter().collect() };
    let name = volume_name(claim);
    if volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none()) {
        let Some(why) = misfit(volume, claim) else { return bind(volume, claim) };
        return waiting(tell_claim(claim, true, "VolumeMismatch", format!("Cannot bind to requested volume {name:?}: {why}")), claim);
    }
    if is_bound_to(volume, claim) {
        return bind(volume, claim);
    }
    waiting(tell_claim(claim, true, "FailedBinding", format!("volume {name:?} already bound to a different claim.")), claim)
}

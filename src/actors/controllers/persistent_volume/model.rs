//! What plans are made of: writes and events, and the changes of objects that several plans share. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use troupe_api::meta::Quantity;

use crate::storage::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, annotation,
    binding::{annotate, bound_volume},
    capacity, claim_phase,
    matching::access_modes,
    volume_name, volume_phase,
};

type Sizes = BTreeMap<String, ApiQuantity>;

/// On a volume that was resized: the size that its file system still has.
const PRE_RESIZE_CAPACITY: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";

/// Where directories of volumes may be removed, on the controllers' machine: upstream's deleter of hostPath volumes is for trying things out.
pub const DELETABLE: &str = "/tmp";

/// One write, or one event. They are done in order; a write carries on from the version that the write before it left.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    UpdateVolume(Box<PersistentVolume>),
    /// Only the status is written.
    UpdateVolumeStatus(Box<PersistentVolume>),
    UpdateClaim(Box<PersistentVolumeClaim>),
    /// Only the status is written.
    UpdateClaimStatus(Box<PersistentVolumeClaim>),
    /// Removes what lies at that path below `/tmp/`, then the volume.
    DeleteHostPath {
        volume: Box<PersistentVolume>,
        path: PathBuf,
    },
    Tell {
        about: About,
        warning: bool,
        reason: &'static str,
        message: String,
    },
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    Claim(Box<PersistentVolumeClaim>),
    Volume(Box<PersistentVolume>),
}

/// An event about a claim.
pub fn tell_claim(claim: &PersistentVolumeClaim, warning: bool, reason: &'static str, message: impl Into<String>) -> Action {
    Action::Tell { about: About::Claim(Box::new(claim.clone())), warning, reason, message: message.into() }
}

/// An event about a volume.
pub fn tell_volume(volume: &PersistentVolume, warning: bool, reason: &'static str, message: impl Into<String>) -> Action {
    Action::Tell { about: About::Volume(Box::new(volume.clone())), warning, reason, message: message.into() }
}

/// The volume in another phase; `None` if it is in it.
pub fn in_phase(volume: &PersistentVolume, phase: &str, message: &str) -> Option<PersistentVolume> {
    if volume_phase(volume) == phase {
        return None;
    }
    let mut moved = volume.clone();
    let status = moved.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = (!message.is_empty()).then(|| message.to_owned());
    Some(moved)
}

/// The same, with the event that belongs to it.
pub fn phase_with_event(volume: &PersistentVolume, phase: &str, reason: &'static str, message: &str) -> Vec<Action> {
    let Some(moved) = in_phase(volume, phase, message) else { return Vec::new() };
    let event = tell_volume(&moved, true, reason, message);
    vec![Action::UpdateVolumeStatus(Box::new(moved)), event]
}

/// Binds both to each other: what is missing of it, the volume first.
pub fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let mut actions = Vec::new();
    let changed = bound_volume(volume, claim);
    let volume = changed.as_ref().unwrap_or(volume);
    actions.extend(changed.clone().map(|volume| Action::UpdateVolume(Box::new(volume))));
    actions.extend(in_phase(volume, "Bound", "").map(|volume| Action::UpdateVolumeStatus(Box::new(volume))));
    let changed = bound_claim(claim, volume);
    let claim = changed.as_ref().unwrap_or(claim);
    actions.extend(changed.clone().map(|claim| Action::UpdateClaim(Box::new(claim))));
    actions.extend(claim_in_phase(claim, "Bound", Some(volume)).map(|claim| Action::UpdateClaimStatus(Box::new(claim))));
    actions
}

fn bound_claim(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let mut bound = claim.clone();
    if Some(volume_name(claim)) != volume.metadata.name.as_deref() {
        bound.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
        annotate(&mut bound, BOUND_BY_CONTROLLER);
    }
    annotate(&mut bound, BIND_COMPLETED);
    (bound != *claim).then_some(bound)
}

/// The claim in a phase, with what its volume gives it; `None` if its status says all that.
pub fn claim_in_phase(claim: &PersistentVolumeClaim, phase: &str, volume: Option<&PersistentVolume>) -> Option<PersistentVolumeClaim> {
    let mut moved = claim.clone();
    let before = claim_phase(claim);
    let status = moved.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    match volume {
        None => {
            status.access_modes = None;
            status.capacity = None;
            status.current_volume_attributes_class_name = None;
        }
        Some(volume) => {
            let spec = volume.spec.as_ref();
            status.access_modes = Some(access_modes(volume).to_vec());
            // Of a claim that is bound already another size may be meant: its file system's.
            if before != phase {
                status.capacity = sizes(volume, claim);
            }
            if before == "Pending" && phase == "Bound" {
                status.current_volume_attributes_class_name = spec.and_then(|spec| spec.volume_attributes_class_name.clone());
            }
        }
    }
    (moved.status != claim.status).then_some(moved)
}

/// What the status of a claim says of its size when it is bound.
fn sizes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Sizes> {
    let known = claim.status.as_ref().and_then(|status| status.capacity.clone());
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.capacity.clone());
    if let Some(before) = annotation(&volume.metadata, PRE_RESIZE_CAPACITY) {
        let size = match Quantity::parse(before) {
            Ok(_) => before.to_owned(),
            Err(_) => capacity(volume).to_string(),
        };
        let mut sizes = known.unwrap_or_default();
        sizes.insert("storage".into(), ApiQuantity(size));
        return Some(sizes);
    }
    let amount = |sizes: &Option<Sizes>| sizes.as_ref()?.get("storage").and_then(|amount| Quantity::parse(&amount.0).ok());
    if amount(&known).is_some() && amount(&known) == amount(&of_volume) { known } else { of_volume }
}

/// Takes a binding back: a volume that the controller bound is free again, one that a person bound is kept for the claim's name.
pub fn unbind(volume: &PersistentVolume) -> Vec<Action> {
    let mut free = volume.clone();
    let spec = free.spec.get_or_insert_default();
    if annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some() {
        spec.claim_ref = None;
        if let Some(annotations) = &mut free.metadata.annotations {
            annotations.remove(BOUND_BY_CONTROLLER);
        }
        free.metadata.annotations = free.metadata.annotations.take().filter(|annotations| !annotations.is_empty());
    } else if let Some(reference) = &mut spec.claim_ref {
        reference.uid = None;
    }
    let available = in_phase(&free, "Available", "");
    let status = available.map(|volume| Action::UpdateVolumeStatus(Box::new(volume)));
    [Action::UpdateVolume(Box::new(free))].into_iter().chain(status).collect()
}

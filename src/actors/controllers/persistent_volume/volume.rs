//! What to do about a volume. Pure.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::model::{Action, DELETABLE, in_phase, phase_with_event, tell_claim, tell_volume, unbind};
use crate::storage::{
    IN_TREE, MIGRATED_TO, PROVISIONED_BY, annotation, binding::claim_uid, matching::modes_differ, reclaim_policy, volume_name, volume_phase,
};

/// The name of upstream's plugin.
const HOST_PATH: &str = "kubernetes.io/host-path";

/// Plans the next steps for a volume. `claim` is the one that it is bound to, by name and UID, if that exists; `users` are the pods
/// that use a claim of that name.
pub fn plan(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>, users: &[String]) -> Vec<Action> {
    // A volume without a claim's UID is at most kept for a claim, which is for that claim's turn.
    if claim_uid(volume).is_empty() {
        return to_phase(volume, "Available");
    }
    let Some(claim) = claim else { return release(volume, users) };
    let named = volume_name(claim);
    if named.is_empty() {
        return if modes_differ(volume, claim) { mismatch(volume, claim) } else { Vec::new() };
    }
    if Some(named) == volume.metadata.name.as_deref() {
        return to_phase(volume, "Bound");
    }
    // The claim is bound to another volume. One that was made for it is of no use any more.
    if annotation(&volume.metadata, PROVISIONED_BY).is_some() && reclaim_policy(volume) == "Delete" {
        return release(volume, users);
    }
    unbind(volume)
}

fn to_phase(volume: &PersistentVolume, phase: &str) -> Vec<Action> {
    in_phase(volume, phase, "").map(|volume| Action::UpdateVolumeStatus(Box::new(volume))).into_iter().collect()
}

fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let (of_claim, of_volume) = (claim.metadata.name.as_deref().unwrap_or_default(), volume.metadata.name.as_deref().unwrap_or_default());
    let about_volume = format!("Cannot bind PersistentVolume to requested PersistentVolumeClaim {of_claim:?} due to incompatible volumeMode.");
    let about_claim = format!("Cannot bind PersistentVolume {of_volume:?} to requested PersistentVolumeClaim due to incompatible volumeMode.");
    vec![tell_volume(volume, true, "VolumeMismatch", about_volume), tell_claim(claim, true, "VolumeMismatch", about_claim)]
}

/// The claim is gone, or needs the volume no more. A failure stays to be seen.
fn release(volume: &PersistentVolume, users: &[String]) -> Vec<Action> {
    if matches!(volume_phase(volume), "Released" | "Failed") {
        return reclaim(volume, users);
    }
    let Some(released) = in_phase(volume, "Released", "") else { return reclaim(volume, users) };
    let reclaimed = reclaim(&released, users);
    [Action::UpdateVolumeStatus(Box::new(released))].into_iter().chain(reclaimed).collect()
}

fn reclaim(volume: &PersistentVolume, users: &[String]) -> Vec<Action> {
    if annotation(&volume.metadata, MIGRATED_TO).is_some_and(|driver| !driver.is_empty()) {
        return Vec::new();
    }
    match reclaim_policy(volume) {
        "Retain" => Vec::new(),
        "Delete" => match deleter(volume) {
            Deleter::External => Vec::new(),
            Deleter::HostPath(path) => vec![Action::DeleteHostPath { volume: Box::new(volume.clone()), path }],
            Deleter::Nobody(why) => phase_with_event(volume, "Failed", "VolumeFailedDelete", &why),
        },
        "Recycle" if !users.is_empty() => {
            vec![tell_volume(volume, false, "VolumeFailedRecycle", format!("Volume is used by pods: {}", users.join(",")))]
        }
        "Recycle" => phase_with_event(volume, "Failed", "VolumeFailedRecycle", "No recycler plugin found for the volume!"),
        _ => phase_with_event(volume, "Failed", "VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy"),
    }
}

/// Who deletes a volume.
enum Deleter {
    /// An external provisioner.
    External,
    /// This controller, at that path below [`DELETABLE`].
    HostPath(PathBuf),
    /// And why.
    Nobody(String),
}

fn deleter(volume: &PersistentVolume) -> Deleter {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let spec = volume.spec.as_ref();
    let path = spec.and_then(|spec| Some(spec.host_path.as_ref()?.path.as_str()));
    match (annotation(&volume.metadata, PROVISIONED_BY).filter(|provisioner| !provisioner.is_empty()), path) {
        (Some(HOST_PATH), Some(path)) => host_path(path),
        (Some(HOST_PATH), None) => {
            Deleter::Nobody(format!("failed to create deleter for volume {name:?}: spec.PersistentVolumeSource.HostPath is nil"))
        }
        (Some(provisioner), _) if provisioner.starts_with(IN_TREE) => Deleter::Nobody(format!("no volume plugin matched name: {provisioner}")),
        (Some(_), _) => Deleter::External,
        (None, _) if spec.is_some_and(|spec| spec.csi.is_some()) => Deleter::External,
        (None, Some(path)) => host_path(path),
        (None, None) => Deleter::Nobody(format!("error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched")),
    }
}

fn host_path(path: &str) -> Deleter {
    let below = path.strip_prefix(DELETABLE).filter(|rest| rest.starts_with('/')).map(|rest| rest.trim_matches('/'));
    match below.filter(|rest| !rest.is_empty()) {
        Some(rest) => Deleter::HostPath(rest.into()),
        None => Deleter::Nobody(format!("host_path deleter only supports /tmp/.+ but received provided {path}")),
    }
}

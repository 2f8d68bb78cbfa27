//! Which volume a claim gets. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use troupe_api::meta::LabelSelector;

use super::{capacity, class_of_claim, class_of_volume, request, volume_phase};

/// Whether a volume is kept for this claim, or bound to it. A reference without a UID is of whoever has the name.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

/// Whether one is a file system and the other a block device.
pub fn modes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    of_volume != of_claim
}

/// Whether the volume can be used in every way that the claim asks for.
pub fn offers_access(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = access_modes(volume);
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    wanted.iter().all(|mode| offered.contains(mode))
}

/// The ways in which a volume can be used.
pub fn access_modes(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

fn attributes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()).unwrap_or_default();
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()).unwrap_or_default();
    of_volume != of_claim
}

/// Why a claim cannot have the volume that it names, in upstream's words.
pub fn misfit(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion {:?}", volume.metadata.name.as_deref().unwrap_or_default()));
    }
    let why = if capacity(volume).value() < request(claim).value() {
        "requested PV is too small"
    } else if class_of_volume(volume) != class_of_claim(claim) {
        "storageClassName does not match"
    } else if attributes_differ(volume, claim) {
        "volumeAttributesClassName does not match"
    } else if modes_differ(volume, claim) {
        "incompatible volumeMode"
    } else if !offers_access(volume, claim) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// Whether a volume can be reached from the node that is thought of.
pub type Reachable<'a> = &'a dyn Fn(&PersistentVolume) -> bool;

/// How a volume is looked for.
#[derive(Clone, Copy, Default)]
pub struct Search<'a> {
    /// Where the volume is to be used; the scheduler thinks of a node, the controller of none.
    pub reachable: Option<Reachable<'a>>,
    /// Names of volumes that are given away already.
    pub taken: Option<&'a BTreeSet<String>>,
    /// The scheduler will choose: without a node only a volume that is kept for the claim counts.
    pub delayed: bool,
}

/// The volume that is kept for the claim, or else the smallest available one that fits.
pub fn best_match<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'a Arc<PersistentVolume>>,
    search: Search<'_>,
) -> Option<&'a Arc<PersistentVolume>> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(LabelSelector::from);
    let mut smallest: Option<&Arc<PersistentVolume>> = None;
    for volume in volumes {
        if !may_be_taken(volume, claim, search) {
            continue;
        }
        let is_reachable = search.reachable.is_none_or(|reachable| reachable(volume));
        if is_bound_to(volume, claim) {
            return is_reachable.then_some(volume);
        }
        let is_selected = || {
            let labels = volume.metadata.labels.clone().unwrap_or_default();
            selector.as_ref().is_none_or(|selector| selector.matches(&labels))
        };
        if (search.reachable.is_none() && search.delayed)
            || volume_phase(volume) != "Available"
            || !is_reachable
            || class_of_volume(volume) != class_of_claim(claim)
            || !offers_access(volume, claim)
            || !is_selected()
        {
            continue;
        }
        if smallest.is_none_or(|best| capacity(volume) < capacity(best)) {
            smallest = Some(volume);
        }
    }
    smallest
}

/// What must hold of a volume that is kept for the claim, too.
fn may_be_taken(volume: &PersistentVolume, claim: &PersistentVolumeClaim, search: Search<'_>) -> bool {
    let is_free = volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none());
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    !search.taken.is_some_and(|taken| taken.contains(name))
        && (is_free || is_bound_to(volume, claim))
        && capacity(volume) >= request(claim)
        && !modes_differ(volume, claim)
        && !attributes_differ(volume, claim)
        && volume.metadata.deletion_timestamp.is_none()
}

/// The same as the controller does it: volumes that can do the least of what is more than asked for come first.
pub fn best_match_by_access<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    delayed: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let sizes: BTreeSet<usize> = volumes.iter().map(|volume| access_modes(volume).len()).collect();
    sizes.into_iter().find_map(|size| {
        let group = volumes.iter().filter(|volume| access_modes(volume).len() == size && offers_access(volume, claim));
        best_match(claim, group, Search { delayed, ..Search::default() })
    })
}

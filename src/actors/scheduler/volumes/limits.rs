//! Which volumes count against the limits of which driver on a node. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::Storage;
use crate::storage::{IN_TREE, class_of_claim, volume_name};

/// A volume of a CSI driver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CsiVolume {
    pub driver: Arc<str>,
    pub handle: String,
}

/// The CSI volume of a claim; one that is yet to be made counts for its class's driver.
pub fn csi_volume(claim: &PersistentVolumeClaim, storage: &dyn Storage) -> Option<CsiVolume> {
    if let Some(volume) = Some(volume_name(claim)).filter(|name| !name.is_empty()).and_then(|name| storage.volume(name)) {
        let source = volume.spec.as_ref()?.csi.as_ref()?;
        return Some(CsiVolume { driver: source.driver.as_str().into(), handle: source.volume_handle.clone() });
    }
    let class = Some(class_of_claim(claim)).filter(|name| !name.is_empty()).and_then(|name| storage.class(name))?;
    // No handle of a volume that exists begins so.
    let metadata = &claim.metadata;
    let handle = format!("\0{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    (!class.provisioner.starts_with(IN_TREE)).then(|| CsiVolume { driver: class.provisioner.as_str().into(), handle })
}

/// How many volumes of each driver a node takes; drivers without a limit are not named.
pub fn limits_of(storage: &dyn Storage, node: &str) -> BTreeMap<String, usize> {
    let Some(node) = storage.csi_node(node) else { return BTreeMap::new() };
    let limited = node.spec.drivers.iter().filter_map(|driver| {
        let count = driver.allocatable.as_ref()?.count?;
        Some((driver.name.clone(), usize::try_from(count).unwrap_or(0)))
    });
    limited.collect()
}

/// Whether a driver is on a node, or does not have to be there: it keeps no pods from nodes without it.
pub fn may_be_used(storage: &dyn Storage, driver: &str, node: &str) -> bool {
    let must_be_there = storage.driver(driver).is_some_and(|driver| driver.spec.prevent_pod_scheduling_if_missing == Some(true));
    !must_be_there || storage.csi_node(node).is_some_and(|node| node.spec.drivers.iter().any(|there| there.name == driver))
}

/// The CSI volumes that are attached to a node, by VolumeAttachments.
pub fn attached_to(storage: &dyn Storage, node: &str) -> Vec<CsiVolume> {
    let attachments = storage.attachments(node);
    let volumes = attachments.iter().filter_map(|attachment| {
        let volume = storage.volume(attachment.spec.source.persistent_volume_name.as_deref()?)?;
        let handle = volume.spec.as_ref()?.csi.as_ref()?.volume_handle.clone();
        let driver = Some(attachment.spec.attacher.as_str()).filter(|attacher| !attacher.is_empty())?.into();
        Some(CsiVolume { driver, handle })
    });
    volumes.collect()
}

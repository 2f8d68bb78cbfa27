//! Volumes (storage.k8s.io) and devices (resource.k8s.io).

use super::row::{Group, Row, STATUS, with};
use crate::resources::kinds;

pub(super) const STORAGE: Group = Group {
    name: "storage.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("CSIDriver", "csidrivers").strategy(with::<kinds::CsiDriver>),
        Row::cluster("CSINode", "csinodes").strategy(with::<kinds::CsiNode>),
        Row::namespaced("CSIStorageCapacity", "csistoragecapacities").strategy(with::<kinds::CsiStorageCapacity>),
        Row::cluster("StorageClass", "storageclasses").strategy(with::<kinds::StorageClass>).short(&["sc"]),
        Row::cluster("VolumeAttachment", "volumeattachments").strategy(with::<kinds::VolumeAttachment>).subs(&[STATUS]),
        Row::cluster("VolumeAttributesClass", "volumeattributesclasses").strategy(with::<kinds::VolumeAttributesClass>).short(&["vac"]),
    ],
};

pub(super) const RESOURCE: Group = Group {
    name: "resource.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("DeviceClass", "deviceclasses").strategy(with::<kinds::DeviceClass>),
        Row::namespaced("ResourceClaim", "resourceclaims").strategy(with::<kinds::ResourceClaim>).subs(&[STATUS]),
        Row::namespaced("ResourceClaimTemplate", "resourceclaimtemplates").strategy(with::<kinds::ResourceClaimTemplate>),
        Row::cluster("ResourceSlice", "resourceslices").strategy(with::<kinds::ResourceSlice>),
    ],
};

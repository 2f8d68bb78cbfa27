//! Volumes (storage.k8s.io) and devices (resource.k8s.io).

use super::row::{Group, Row, STATUS, with};
use crate::resources::{Feature, kinds};

const NO_DRIVERS: &str = "without effect: drivers of volumes are not called";

pub(super) const STORAGE: Group = Group {
    name: "storage.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("CSIDriver", "csidrivers").features(&[Feature::ReturnsDeleted]).strategy(with::<kinds::CsiDriver>).without_effect(NO_DRIVERS),
        Row::cluster("CSINode", "csinodes")
            .features(&[Feature::Vital, Feature::ReturnsDeleted])
            .strategy(with::<kinds::CsiNode>)
            .without_effect(NO_DRIVERS),
        Row::namespaced("CSIStorageCapacity", "csistoragecapacities").strategy(with::<kinds::CsiStorageCapacity>).without_effect(NO_DRIVERS),
        Row::cluster("StorageClass", "storageclasses").features(&[Feature::ReturnsDeleted]).strategy(with::<kinds::StorageClass>).short(&["sc"]),
        Row::cluster("VolumeAttachment", "volumeattachments")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::VolumeAttachment>)
            .without_effect(NO_DRIVERS)
            .subs(&[STATUS]),
        Row::cluster("VolumeAttributesClass", "volumeattributesclasses")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::VolumeAttributesClass>)
            .without_effect(NO_DRIVERS)
            .short(&["vac"]),
    ],
};

pub(super) const RESOURCE: Group = Group {
    name: "resource.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("DeviceClass", "deviceclasses").features(&[Feature::ReturnsDeleted]).strategy(with::<kinds::DeviceClass>),
        Row::namespaced("ResourceClaim", "resourceclaims")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::ResourceClaim>)
            .subs(&[STATUS]),
        Row::namespaced("ResourceClaimTemplate", "resourceclaimtemplates")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::ResourceClaimTemplate>),
        Row::cluster("ResourceSlice", "resourceslices").features(&[Feature::ReturnsDeleted]).strategy(with::<kinds::ResourceSlice>),
    ],
};

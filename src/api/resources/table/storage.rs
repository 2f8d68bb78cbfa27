//! Volumes (storage.k8s.io) and devices (resource.k8s.io).

use super::row::{Group, Row, STATUS, with};
use crate::resources::{Feature, kinds};

pub(super) const STORAGE: Group = Group {
    name: "storage.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("CSIDriver", "csidrivers").features(&[Feature::ReturnsDeleted]).strategy(with::<kinds::CsiDriver>),
        Row::cluster("CSINode", "csinodes").features(&[Feature::Vital, Feature::ReturnsDeleted]).strategy(with::<kinds::CsiNode>),
        Row::namespaced("CSIStorageCapacity", "csistoragecapacities").strategy(with::<kinds::CsiStorageCapacity>),
        Row::cluster("StorageClass", "storageclasses").features(&[Feature::ReturnsDeleted]).strategy(with::<kinds::StorageClass>).short(&["sc"]),
        Row::cluster("VolumeAttachment", "volumeattachments")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::VolumeAttachment>)
            .subs(&[STATUS]),
        Row::cluster("VolumeAttributesClass", "volumeattributesclasses")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::VolumeAttributesClass>)
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

/// Off where nothing is said. Both versions have the same form; upstream stores the older one.
pub(super) const DEVICE_TAINT_RULES: Group = Group {
    name: "resource.k8s.io",
    versions: &["v1beta2", "v1alpha3"],
    rows: &[Row::cluster("DeviceTaintRule", "devicetaintrules")
        .features(&[Feature::ReturnsDeleted])
        .hashed_as("v1alpha3")
        .strategy(with::<kinds::DeviceTaintRule>)
        .subs(&[STATUS])],
};

/// Off where nothing is said.
pub(super) const POOL_STATUS: Group = Group {
    name: "resource.k8s.io",
    versions: &["v1alpha3"],
    rows: &[Row::cluster("ResourcePoolStatusRequest", "resourcepoolstatusrequests")
        .features(&[Feature::ReturnsDeleted])
        .strategy(with::<kinds::ResourcePoolStatusRequest>)
        .subs(&[STATUS])],
};

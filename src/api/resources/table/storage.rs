//! Volumes (storage.k8s.io) and devices (resource.k8s.io).

use super::row::{Group, Row, STATUS};

pub(super) const STORAGE: Group = Group {
    name: "storage.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("CSIDriver", "csidrivers"),
        Row::cluster("CSINode", "csinodes"),
        Row::namespaced("CSIStorageCapacity", "csistoragecapacities"),
        Row::cluster("StorageClass", "storageclasses").short(&["sc"]),
        Row::cluster("VolumeAttachment", "volumeattachments").subs(&[STATUS]),
        Row::cluster("VolumeAttributesClass", "volumeattributesclasses").short(&["vac"]),
    ],
};

pub(super) const RESOURCE: Group = Group {
    name: "resource.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("DeviceClass", "deviceclasses"),
        Row::namespaced("ResourceClaim", "resourceclaims").subs(&[STATUS]),
        Row::namespaced("ResourceClaimTemplate", "resourceclaimtemplates"),
        Row::cluster("ResourceSlice", "resourceslices"),
    ],
};

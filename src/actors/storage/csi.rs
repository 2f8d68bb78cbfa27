//! Volumes of CSI drivers, as the controllers, the kubelet and external attachers agree on their names.

use k8s_openapi::api::{
    core::v1::{CSIPersistentVolumeSource, PersistentVolume},
    storage::v1::{CSIDriver, VolumeAttachment},
};
use sha2::{Digest, Sha256};

/// What a CSI driver says of a volume.
pub fn source(volume: &PersistentVolume) -> Option<&CSIPersistentVolumeSource> {
    volume.spec.as_ref()?.csi.as_ref()
}

/// The name of the object that stands for a volume on a node; external attachers and drivers expect it.
pub fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", hex::encode(Sha256::digest(format!("{handle}{driver}{node}"))))
}

/// A volume's name in the status of nodes.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// Whether volumes of a driver are attached to a node before it mounts them. A driver without an object wants that.
pub fn is_attached(driver: Option<&CSIDriver>) -> bool {
    driver.and_then(|driver| driver.spec.attach_required) != Some(false)
}

/// Whether one node at most has the volume: none of its access modes is for many.
pub fn is_exclusive(volume: &PersistentVolume) -> bool {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    !modes.is_empty() && !modes.iter().any(|mode| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany"))
}

/// Whether an attacher says that the volume is there. One that is being taken away is not.
pub fn attached(attachment: &VolumeAttachment) -> bool {
    attachment.metadata.deletion_timestamp.is_none() && attachment.status.as_ref().is_some_and(|status| status.attached)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn names_are_those_that_attachers_expect() {
        let name = attachment_name("vol-1", "d.example.com", "n1");
        assert_eq!((name.len(), name.starts_with("csi-")), (68, true));
        assert_ne!(name, attachment_name("vol-1", "d.example.com", "n2"));
        assert_eq!(unique_name("d", "v"), "kubernetes.io/csi/d^v");
    }

    #[test]
    fn only_what_is_for_one_node_is_exclusive() {
        let volume = |modes: serde_json::Value| from_value(json!({"spec": {"accessModes": modes}})).expect("a volume");
        assert!(is_exclusive(&volume(json!(["ReadWriteOnce"]))) && is_exclusive(&volume(json!(["ReadWriteOncePod"]))));
        assert!(!is_exclusive(&volume(json!(["ReadWriteOnce", "ReadOnlyMany"]))) && !is_exclusive(&volume(json!([]))));
        let driver = |required: serde_json::Value| from_value(json!({"spec": {"attachRequired": required}})).expect("a driver");
        assert!(is_attached(None) && is_attached(Some(&driver(json!(null)))) && !is_attached(Some(&driver(json!(false)))));
    }
}

//! What the built-in provisioner of local volumes is called, and how its volumes say whose they are.
//!
//! A volume is a directory on one node, below the directory that the node's annotation tells. The controller makes the object, the
//! node makes the directory when a pod first uses it, and removes both when the claim is gone and the volume's policy says so.

use crate::meta::Object;

/// The provisioner, as storage classes and volumes name it.
pub const PROVISIONER: &str = "troupe.dev/local-path";
/// The storage class that a cluster begins with.
pub const CLASS: &str = "troupe-local";
/// On a volume of this provisioner: the node that has it. Nodes select their volumes by it, and see no others.
pub const NODE_LABEL: &str = "local-path.troupe.dev/node";
/// On a node: the directory in which its volumes lie.
pub const DIRECTORY: &str = "local-path.troupe.dev/directory";
/// On a volume: who made it (upstream's).
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Whether this provisioner made the volume, on this node.
pub fn is_on(volume: &Object, node: &str) -> bool {
    volume.annotation(PROVISIONED_BY) == Some(PROVISIONER) && volume.str(&["metadata", "labels", NODE_LABEL]) == node
}

/// Whether the volume's claim is gone and the volume is to go, too.
pub fn is_done(volume: &Object) -> bool {
    matches!(volume.str(&["status", "phase"]), "Released" | "Failed") && volume.str(&["spec", "persistentVolumeReclaimPolicy"]) == "Delete"
}

//! `restrictedVolumes`: volumes are of the types that give a pod nothing of its node or of foreign servers.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation, host_path_volumes,
    wording::{plural, quoted, quoted_set},
};

pub(super) const CHECK: Check = Check { id: "restrictedVolumes", revisions: &[Revision::new(0, check).overriding(&[host_path_volumes::ID])] };

const ALLOWED: [&str; 9] = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"];

const FORBIDDEN: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn check(pod: &PodView<'_>) -> Option<Violation> {
    let bad: Vec<_> = tree::items(pod.spec, &["volumes"]).iter().filter(|volume| !ALLOWED.iter().any(|kind| is_set(volume, kind))).collect();
    if bad.is_empty() {
        return None;
    }
    let kind_of = |volume: &&Value| FORBIDDEN.into_iter().find(|kind| is_set(volume, kind)).unwrap_or("unknown");
    let kinds: BTreeSet<&str> = bad.iter().map(kind_of).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(bad.iter().map(|volume| tree::text(volume, &["name"]))),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted_set(&kinds),
    );
    Some(Violation { reason: "restricted volume types", detail })
}

fn is_set(volume: &Value, kind: &str) -> bool {
    !volume[kind].is_null()
}

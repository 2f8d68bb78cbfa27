//! Volumes that were made on this node for claims: taking away those whose claims are gone.
//!
//! The directory goes first, then the object, so that one sees what is left. A directory without an object is nobody's to remove:
//! its volume was retained.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::PersistentVolume;
use troupe_api::{
    local_path,
    meta::{LabelSelector, ObjectKey},
    service::{DeleteOptions, WatchOptions},
};
use troupe_api_client::Client;

use super::volumes::claim::made_name;
use crate::{
    files::remove_tree,
    runtime::{
        cache::{Cache, Caches},
        controller::{self, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
    storage::{reclaim_policy, volume_phase},
};

/// See the module. Keys are volumes of this node.
pub struct LocalVolumes {
    volumes: Cache<PersistentVolume>,
    directory: PathBuf,
}

impl LocalVolumes {
    /// Starts the unit `kubelet/local-volumes`; `client` acts as the node.
    pub fn start(caches: &Caches, client: &Client, node: &str, directory: PathBuf) {
        let labels = LabelSelector::from_map([(&local_path::NODE_LABEL.to_owned(), &node.to_owned())]);
        let volumes = caches.selected(" of this node", WatchOptions { labels, ..WatchOptions::default() });
        controller::start_below("kubelet", caches.system(), caches, client.clone(), LocalVolumes { volumes, directory });
    }
}

/// The name of the directory to be removed, if the volume is to go. One that is being deleted by hand goes by itself.
fn plan<'a>(volume: &'a PersistentVolume, directory: &Path) -> Option<&'a str> {
    let is_done = matches!(volume_phase(volume), "Released" | "Failed") && reclaim_policy(volume) == "Delete";
    made_name(volume, directory).filter(|_| is_done)
}

impl Controller for LocalVolumes {
    const NAME: &'static str = "local-volumes";
    const EVENT_SOURCE: Option<&'static str> = Some("local-path-provisioner");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.map_of(&self.volumes, |change| vec![change.key.clone()]);
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(volume) = self.volumes.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let Some(name) = plan(&volume, &self.directory) else { return Ok(Outcome::Done) };
        let path = self.directory.join(name);
        if let Err(error) = remove_tree(&path).await {
            let message = format!("cannot remove {}: {error}", path.display());
            cx.tell(&*volume, true, "VolumeFailedDelete", message.clone());
            return Err(ReconcileError::Other(message));
        }
        let uid = volume.metadata.uid.clone().unwrap_or_default();
        let options = DeleteOptions { precondition_uid: Some(uid.clone()), ..DeleteOptions::default() };
        match cx.client().all::<PersistentVolume>().delete(name, options).await {
            Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status.into()),
            _ => {
                cx.deleted(&self.volumes, key.clone(), uid);
                Ok(Outcome::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn volume(name: &str, path: &str, phase: &str, policy: &str) -> PersistentVolume {
        from_value(json!({
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": local_path::PROVISIONER}},
            "spec": {"local": {"path": path}, "persistentVolumeReclaimPolicy": policy},
            "status": {"phase": phase},
        }))
        .expect("a volume")
    }

    #[test]
    fn only_what_was_made_here_and_is_done_is_removed() {
        let place = Path::new("/data/volumes");
        let planned = |name: &str, path: &str, phase: &str, policy: &str| plan(&volume(name, path, phase, policy), place).map(str::to_owned);
        assert_eq!(planned("pvc-1", "/data/volumes/pvc-1", "Released", "Delete").as_deref(), Some("pvc-1"));
        assert_eq!(planned("pvc-1", "/data/volumes/pvc-1", "Bound", "Delete"), None);
        assert_eq!(planned("pvc-1", "/data/volumes/pvc-1", "Released", "Retain"), None);
        for (name, path) in
            [("pvc-1", "/etc"), ("pvc-1", "/data/volumes/pvc-2"), ("..", "/data/volumes/.."), ("", "/data/volumes/"), ("a/b", "/data/volumes/a/b")]
        {
            assert_eq!(planned(name, path, "Released", "Delete"), None, "{name} {path}");
        }
        let mut foreign = volume("pvc-1", "/data/volumes/pvc-1", "Released", "Delete");
        foreign.metadata.annotations = None;
        assert_eq!(plan(&foreign, place), None);
    }
}

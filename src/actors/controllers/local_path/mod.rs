//! The built-in provisioner of local volumes: makes a volume for a claim that the scheduler has found a node for.
//!
//! It goes by the rules of external provisioners (`volume.kubernetes.io/storage-provisioner`, `selected-node`), so the binder needs to
//! know nothing of it. The object says which directory of the node it is; the node makes that, and removes it. Volumes of nodes that
//! do not exist any more are taken away here: nobody else will.

pub mod objects;
mod plan;
#[cfg(test)]
mod tests;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use troupe_api::{
    local_path,
    meta::{LabelSelector, ObjectKey},
    service::WatchOptions,
};

use self::plan::{Action, View, is_ours, plan, selected_node};
use super::writes::delete_with_uid;
use crate::{
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
    storage::{class_of_claim, reclaim_policy, volume_phase},
};

/// Makes volumes. Keys are claims.
pub struct LocalPathProvisioner {
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    nodes: Cache<Node>,
}

/// Takes volumes away whose node is gone. Keys are volumes.
pub struct LocalPathCleaner {
    volumes: Cache<PersistentVolume>,
    nodes: Cache<Node>,
}

impl LocalPathProvisioner {
    pub fn new(caches: &Caches) -> Self {
        LocalPathProvisioner { claims: caches.cache(), volumes: caches.cache(), classes: caches.cache(), nodes: caches.cache() }
    }
}

impl LocalPathCleaner {
    pub fn new(caches: &Caches) -> Self {
        let made = LabelSelector::parse(local_path::NODE_LABEL).expect("a valid selector");
        let volumes = caches.selected(" of local paths", WatchOptions { labels: made, ..WatchOptions::default() });
        LocalPathCleaner { volumes, nodes: caches.cache() }
    }
}

impl Controller for LocalPathProvisioner {
    const NAME: &'static str = "local-path-provisioner";
    const EVENT_SOURCE: Option<&'static str> = Some("local-path-provisioner");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<PersistentVolumeClaim>(|change| change.after().is_some_and(|claim| is_ours(claim)));
        watches.reads::<PersistentVolume>();
        watches.reads::<StorageClass>();
        watches.reads::<Node>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(claim) = self.claims.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let class = self.classes.get(&ObjectKey::cluster(class_of_claim(&claim)));
        let node = selected_node(&claim).and_then(|node| self.nodes.get(&ObjectKey::cluster(node)));
        let name = format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default());
        let view = View {
            claim: &claim,
            class: class.as_ref().map(|cached| &*cached.object),
            node: node.as_ref().map(|cached| &*cached.object),
            is_made: self.volumes.contains(&ObjectKey::cluster(name.as_str())),
            name: &name,
        };
        for action in plan(&view) {
            match action {
                Action::Create(volume) => match cx.client().all::<PersistentVolume>().create(&volume).await {
                    Ok(made) => cx.wrote(&self.volumes, &*made),
                    Err(status) if status.is_already_exists() => {}
                    Err(status) => return Err(status.into()),
                },
                Action::Reschedule(claim) => {
                    let written = cx.client().namespaced::<PersistentVolumeClaim>(key.namespace.clone()).update(&claim).await?;
                    cx.wrote(&self.claims, &*written);
                }
                Action::Tell { warning, reason, message } => cx.tell(&*claim, warning, reason, message),
            }
        }
        Ok(Outcome::Done)
    }
}

impl Controller for LocalPathCleaner {
    const NAME: &'static str = "local-path-cleaner";
    const EVENT_SOURCE: Option<&'static str> = Some("local-path-provisioner");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.map_of(&self.volumes, |change| vec![change.key.clone()]);
        let volumes = self.volumes.clone();
        watches.map::<Node>(move |change| if change.is_removal() { volumes.keys() } else { Vec::new() });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(volume) = self.volumes.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let is_there = |node: &str| self.nodes.contains(&ObjectKey::cluster(node));
        if !is_lost(&volume, is_there) {
            return Ok(Outcome::Done);
        }
        let uid = volume.metadata.uid.clone().unwrap_or_default();
        delete_with_uid(&cx.client().all::<PersistentVolume>(), &key.name, &uid).await?;
        cx.deleted(&self.volumes, key.clone(), uid);
        Ok(Outcome::Done)
    }
}

/// Whether the volume is to be deleted, and the node that would do it does not exist.
fn is_lost(volume: &PersistentVolume, is_there: impl Fn(&str) -> bool) -> bool {
    let node = volume.metadata.labels.as_ref().and_then(|labels| labels.get(local_path::NODE_LABEL));
    let is_done = matches!(volume_phase(volume), "Released" | "Failed") && reclaim_policy(volume) == "Delete";
    is_done && plan::is_made_here(volume) && node.is_some_and(|node| !is_there(node))
}

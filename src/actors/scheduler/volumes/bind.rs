//! Effects: what was chosen for a pod's claims is written, and waited for.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use troupe_api::{meta::ObjectKey, status::Status, stored::KubeObject};
use troupe_api_client::Client;

use super::{Choice, StorageCaches, assumed::with_node, pod_key, reaches};
use crate::{
    runtime::cache::Cache,
    storage::{
        SELECTED_NODE, annotation,
        binding::{bound_volume, claim_uid},
        is_fully_bound, volume_name,
    },
};

/// Between two looks at the caches.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long a cache may take to show what was written.
const LAG: Duration = Duration::from_secs(30);

/// Binds a pod's claims on a node: says which volumes are whose and for which claims one is to be made, and waits for the rest.
///
/// # Errors
/// When somebody else was faster, a provisioner gave up, the pod is gone, or it takes too long. The pod is to be scheduled again.
pub async fn bind(client: &Client, caches: &StorageCaches, (pod, node): (&Pod, &Node), choice: &Choice, patience: Duration) -> Result<(), Status> {
    if choice.is_empty() {
        return Ok(());
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    for (claim, volume) in &choice.bindings {
        if let Some(bound) = bound_volume(volume, claim) {
            shown(&caches.volumes, &*client.all::<PersistentVolume>().update(&bound).await?).await;
        }
    }
    for claim in &choice.provisions {
        if annotation(&claim.metadata, SELECTED_NODE) == Some(name) {
            continue;
        }
        let selected = with_node(claim, name);
        let namespace = selected.metadata.namespace.clone().unwrap_or_default();
        shown(&caches.claims, &*client.namespaced::<PersistentVolumeClaim>(namespace).update(&selected).await?).await;
    }
    let all_bound = async {
        while !is_done(caches, pod, node, choice).map_err(|why| Status::internal(format!("binding volumes: {why}")))? {
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(())
    };
    match tokio::time::timeout(patience, all_bound).await {
        Ok(done) => done,
        Err(_) => Err(Status::internal("binding volumes: context deadline exceeded")),
    }
}

/// Waits until a cache shows a write, so that nothing older is judged.
async fn shown<K: KubeObject>(cache: &Cache<K>, written: &K) {
    if let Some(revision) = written.metadata().resource_version.as_deref().and_then(|text| text.parse().ok()) {
        cache.wait_for(revision, LAG).await;
    }
}

/// Whether all claims are bound.
///
/// # Errors
/// Why they will not be, on this node.
fn is_done(caches: &StorageCaches, pod: &Pod, node: &Node, choice: &Choice) -> Result<bool, String> {
    let known = caches.pods.get(&pod_key(pod)).map(|cached| cached.object);
    if known.is_none_or(|known| known.metadata.uid != pod.metadata.uid || known.metadata.deletion_timestamp.is_some()) {
        return Err("pod does not exist any more".into());
    }
    let mut all = true;
    for (claim, volume) in &choice.bindings {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let volume = shown_volume(caches, name).ok_or_else(|| format!("failed to check binding: persistentvolume {name:?} not found"))?;
        is_reachable(&volume, node)?;
        if claim_uid(&volume).is_empty() {
            return Err(format!("ClaimRef got reset for pv {name:?}"));
        }
        all &= is_fully_bound(&*current(caches, claim)?);
    }
    for claim in &choice.provisions {
        let claim = current(caches, claim)?;
        if annotation(&claim.metadata, SELECTED_NODE) != node.metadata.name.as_deref() {
            return Err(format!("provisioning failed for PVC {:?}", claim.metadata.name.as_deref().unwrap_or_default()));
        }
        if let Some(volume) = Some(volume_name(&claim)).filter(|name| !name.is_empty()).and_then(|name| shown_volume(caches, name)) {
            is_reachable(&volume, node)?;
        }
        all &= is_fully_bound(&claim);
    }
    Ok(all)
}

/// A volume as the API shows it, whatever is assumed.
fn shown_volume(caches: &StorageCaches, name: &str) -> Option<Arc<PersistentVolume>> {
    caches.volumes.get(&ObjectKey::cluster(name)).map(|cached| cached.object)
}

fn is_reachable(volume: &PersistentVolume, node: &Node) -> Result<(), String> {
    if reaches(volume, node) {
        return Ok(());
    }
    let (volume, node) = (volume.metadata.name.as_deref().unwrap_or_default(), node.metadata.name.as_deref().unwrap_or_default());
    Err(format!("pv {volume:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms"))
}

fn current(caches: &StorageCaches, claim: &PersistentVolumeClaim) -> Result<Arc<PersistentVolumeClaim>, String> {
    let (namespace, name) = (claim.metadata.namespace.as_deref().unwrap_or_default(), claim.metadata.name.as_deref().unwrap_or_default());
    let shown = caches.claims.get(&ObjectKey::new(namespace, name)).map(|cached| cached.object);
    let found = shown.filter(|found| found.metadata.uid == claim.metadata.uid);
    found.ok_or_else(|| format!("failed to check binding: persistentvolumeclaim {name:?} not found"))
}

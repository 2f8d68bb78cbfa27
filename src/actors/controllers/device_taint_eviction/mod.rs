//! Removes pods whose devices have a taint `NoExecute` that their claims do not tolerate (KEP-5055).

mod plan;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{Device, ResourceClaim, ResourceSlice},
};
use parking_lot::Mutex;
use serde_json::json;
use troupe_api::{
    meta::{ObjectKey, time::format_time},
    service::PatchType,
    status::Status,
};

use self::plan::{departure, is_evicting};
use super::writes::delete_with_uid;
use crate::{
    devices::{DeviceId, claim_name, claims_of, is_for_pod, is_reserved_for, key_of, reserved_for, results},
    pod_phase::is_finished,
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

/// Files claims under the pools that they have devices of.
const BY_POOL: &str = "of pool";
/// Files slices under their pools.
const OF_POOL: &str = "pool";
const EVENT: &str = "DeviceTaintManagerEviction";

/// See the module. Keys are pods.
pub struct DeviceTaintEvictionController {
    pods: Cache<Pod>,
    claims: Cache<ResourceClaim>,
    slices: Cache<ResourceSlice>,
    /// Pods that are to be removed later.
    doomed: Mutex<HashSet<ObjectKey>>,
}

fn pool(driver: &str, pool: &str) -> Arc<str> {
    format!("{driver}/{pool}").into()
}

fn pool_of(slice: &ResourceSlice) -> Arc<str> {
    pool(&slice.spec.driver, &slice.spec.pool.name)
}

impl DeviceTaintEvictionController {
    pub fn new(caches: &Caches) -> Self {
        let claims: Cache<ResourceClaim> = caches.cache();
        claims.add_index(BY_POOL, |claim| {
            let mut pools: Vec<Arc<str>> = results(claim).map(|result| pool(&result.driver, &result.pool)).collect();
            pools.sort();
            pools.dedup();
            pools
        });
        let slices: Cache<ResourceSlice> = caches.cache();
        slices.add_index(OF_POOL, |slice| vec![pool_of(slice)]);
        DeviceTaintEvictionController { pods: caches.cache(), claims, slices, doomed: Mutex::default() }
    }

    /// A device as its driver publishes it today.
    fn device(&self, id: &DeviceId) -> Option<Device> {
        let slices = self.slices.by_index(OF_POOL, &pool(&id.driver, &id.pool));
        let newest = slices.iter().map(|slice| slice.spec.pool.generation).max()?;
        let devices = slices.iter().filter(|slice| slice.spec.pool.generation == newest).flat_map(|slice| slice.spec.devices.iter().flatten());
        devices.into_iter().find(|device| device.name == id.device).cloned()
    }

    /// The claims that a pod uses.
    fn claims_of(&self, pod: &Pod) -> Vec<Arc<ResourceClaim>> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let named = claims_of(pod).iter().filter_map(|asked| claim_name(pod, asked).ok()?);
        let known = named.filter_map(|(name, own)| {
            let claim = self.claims.get(&ObjectKey::new(namespace, name))?.object;
            (!own || is_for_pod(pod, &claim).is_ok()).then_some(claim)
        });
        known.filter(|claim| is_reserved_for(pod, claim)).collect()
    }

    async fn evict(&self, pod: &Pod, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let key = key_of(&pod.metadata);
        cx.tell(pod, false, EVENT, "Marking for deletion");
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByDeviceTaintManager",
            "message": "Device Taint manager: deleting due to NoExecute taint", "lastTransitionTime": format_time(cx.now()),
        });
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let api = cx.client().namespaced::<Pod>(key.namespace.clone());
        let is_ours = |status: &Status| !status.is_not_found() && !status.is_conflict();
        if let Err(status) = api.patch(&key.name, "status", PatchType::StrategicMerge, &patch).await.map(drop)
            && is_ours(&status)
        {
            return Err(status.into());
        }
        Ok(delete_with_uid(&api, &key.name, pod.metadata.uid.as_deref().unwrap_or_default()).await?)
    }
}

/// The pods that use a claim.
fn users(claim: &ResourceClaim) -> Vec<ObjectKey> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    reserved_for(claim)
        .iter()
        .filter(|consumer| consumer.resource == "pods")
        .map(|consumer| ObjectKey::new(namespace, consumer.name.as_str()))
        .collect()
}

impl Controller for DeviceTaintEvictionController {
    const NAME: &'static str = "device-taint-eviction-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<Pod>(|change| change.versions().any(|pod| !claims_of(pod).is_empty()));
        watches.map::<ResourceClaim>(|change| change.after().map(|claim| users(claim)).unwrap_or_default());
        let claims = self.claims.clone();
        watches.map::<ResourceSlice>(move |change| {
            // Slices without such taints, before and now, concern nobody.
            let pools: HashSet<Arc<str>> = change.versions().filter(|slice| is_evicting(slice)).map(|slice| pool_of(slice)).collect();
            pools.iter().flat_map(|pool| claims.by_index(BY_POOL, pool)).flat_map(|claim| users(&claim)).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get(key).map(|cached| cached.object) else {
            self.doomed.lock().remove(key);
            return Ok(Outcome::Done);
        };
        let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref().is_some_and(|node| !node.is_empty()));
        let leaves = is_placed && pod.metadata.deletion_timestamp.is_none() && !is_finished(&pod);
        let due = if leaves { departure(&self.claims_of(&pod), &|id| self.device(id)) } else { None };
        let Some(due) = due else {
            if self.doomed.lock().remove(key) && leaves {
                cx.tell(&*pod, false, EVENT, "Cancelling deletion");
            }
            return Ok(Outcome::Done);
        };
        let wait = due.duration_since(cx.now());
        if let Ok(wait) = Duration::try_from(wait)
            && !wait.is_zero()
        {
            self.doomed.lock().insert(key.clone());
            return Ok(Outcome::RequeueAfter(wait));
        }
        self.evict(&pod, cx).await?;
        self.doomed.lock().remove(key);
        Ok(Outcome::Done)
    }
}

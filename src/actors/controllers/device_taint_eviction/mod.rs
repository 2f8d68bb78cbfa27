//! Removes pods whose devices have a taint `NoExecute` that their claims do not tolerate (KEP-5055): of what drivers publish, and of rules
//! where their feature is on.
//!
//! `plan` says when a pod has to go, `condition` what is said of a rule; `seen` is what both controllers look at: that of pods, below, and that
//! of `rules`. The former does not wait until rules are known: they drive nobody away then, and wake whom they concern when they come.

mod condition;
pub mod metrics;
mod plan;
mod rules;
mod seen;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Pod, PodCondition},
        resource::{
            v1::{ResourceClaim, ResourceSlice},
            v1beta2::DeviceTaintRule,
        },
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use parking_lot::Mutex;
use serde_json::json;
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, PatchType},
    status::Status,
};

pub use self::rules::DeviceTaintRuleController;
use self::{
    plan::is_evicting,
    seen::{Seen, pool_of, users},
};
use crate::{
    devices::{claims_of, key_of},
    pod_conditions,
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

const EVENT: &str = "DeviceTaintManagerEviction";

/// See the module. Keys are pods.
pub struct DeviceTaintEvictionController {
    seen: Arc<Seen>,
    /// Pods that are to be removed later.
    doomed: Mutex<HashSet<ObjectKey>>,
}

/// The controllers where rules taint devices, too (the feature `DRADeviceTaintRules`): of pods, and of rules.
pub fn with_rules(caches: &Caches) -> (DeviceTaintEvictionController, DeviceTaintRuleController) {
    let rules: Cache<DeviceTaintRule> = caches.cache();
    let seen = Arc::new(Seen::new(caches, Some(rules.clone())));
    (DeviceTaintEvictionController::of(seen.clone()), DeviceTaintRuleController::new(seen, rules))
}

impl DeviceTaintEvictionController {
    /// Without rules.
    pub fn new(caches: &Caches) -> Self {
        DeviceTaintEvictionController::of(Arc::new(Seen::new(caches, None)))
    }

    fn of(seen: Arc<Seen>) -> Self {
        DeviceTaintEvictionController { seen, doomed: Mutex::default() }
    }

    /// Whether this one deleted the pod.
    async fn evict(&self, pod: &Pod, cx: &ReconcileContext) -> Result<bool, ReconcileError> {
        let key = key_of(&pod.metadata);
        cx.tell(pod, false, EVENT, "Marking for deletion");
        let condition = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("DeletionByDeviceTaintManager".to_owned()),
            message: Some("Device Taint manager: deleting due to NoExecute taint".to_owned()),
            last_transition_time: Some(Time(cx.now())),
            ..PodCondition::default()
        };
        let api = cx.client().namespaced::<Pod>(key.namespace.clone());
        let is_ours = |status: &Status| !status.is_not_found() && !status.is_conflict();
        if let Some(change) = pod_conditions::change(pod, condition) {
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": change});
            if let Err(status) = api.patch(&key.name, "status", PatchType::StrategicMerge, &patch).await.map(drop)
                && is_ours(&status)
            {
                return Err(status.into());
            }
        }
        let options = DeleteOptions { precondition_uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
        match api.delete(&key.name, options).await {
            Ok(()) => Ok(true),
            Err(status) if !is_ours(&status) => Ok(false),
            Err(status) => Err(status.into()),
        }
    }
}

/// The time between two moments; none if they are the other way round.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

impl Controller for DeviceTaintEvictionController {
    const NAME: &'static str = "device-taint-eviction-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        self.seen.pods_are_woken_by(watches.waker());
        watches.primary_when::<Pod>(|change| change.versions().any(|pod| !claims_of(pod).is_empty()));
        watches.map::<ResourceClaim>(|change| change.after().map(|claim| users(claim)).unwrap_or_default());
        let seen = self.seen.clone();
        watches.map::<ResourceSlice>(move |change| {
            // Slices without such taints, before and now, concern nobody.
            let pools: HashSet<Arc<str>> = change.versions().filter(|slice| is_evicting(slice)).map(|slice| pool_of(slice)).collect();
            pools.iter().flat_map(|pool| seen.users_of_pool(pool)).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.seen.pods.get(key).map(|cached| cached.object) else {
            self.doomed.lock().remove(key);
            return Ok(Outcome::Done);
        };
        let leaves = Seen::can_leave(&pod);
        let Some(departure) = leaves.then(|| self.seen.departure(&pod)).flatten() else {
            if self.doomed.lock().remove(key) && leaves {
                cx.tell(&*pod, false, EVENT, "Cancelling deletion");
            }
            return Ok(Outcome::Done);
        };
        let wait = between(cx.now(), departure.due);
        if !wait.is_zero() {
            self.doomed.lock().insert(key.clone());
            self.seen.wake_rules(&departure.rules);
            return Ok(Outcome::RequeueAfter(wait));
        }
        if self.evict(&pod, cx).await? {
            metrics::evicted(between(departure.due, cx.now()));
            self.seen.note_evicted(&departure.rules);
        }
        self.seen.wake_rules(&departure.rules);
        self.doomed.lock().remove(key);
        Ok(Outcome::Done)
    }
}

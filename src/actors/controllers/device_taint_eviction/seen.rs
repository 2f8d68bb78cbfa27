//! What both controllers of tainted devices know: pods, claims, devices and rules, and whom rules drove away.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::Pod,
    resource::{
        v1::{Device, ResourceClaim, ResourceSlice},
        v1beta2::DeviceTaintRule,
    },
};
use parking_lot::Mutex;
use troupe_api::meta::{Cause, ObjectKey};

use super::{
    condition::Counts,
    plan::{Departure, EFFECT, RuleRef, departure},
};
use crate::{
    devices::{DeviceId, claim_name, claims_of, is_for_pod, is_reserved_for, means_pool, reserved_for, results, taints_device},
    pod_phase::is_finished,
    runtime::{
        cache::{Cache, Caches},
        controller::Waker,
    },
};

/// Files claims under the pools that they have devices of.
const BY_POOL: &str = "of pool";
/// Files slices under their pools.
const OF_POOL: &str = "pool";

/// See the module.
pub struct Seen {
    pub pods: Cache<Pod>,
    claims: Cache<ResourceClaim>,
    slices: Cache<ResourceSlice>,
    /// Where their feature is on.
    rules: Option<Cache<DeviceTaintRule>>,
    /// How many pods went because of a rule, by its name.
    evicted: Mutex<HashMap<String, (RuleRef, u64)>>,
    /// Wakes pods, and rules.
    wakers: Mutex<(Option<Waker>, Option<Waker>)>,
}

fn pool(driver: &str, pool: &str) -> Arc<str> {
    format!("{driver}/{pool}").into()
}

/// The pool of a slice.
pub fn pool_of(slice: &ResourceSlice) -> Arc<str> {
    pool(&slice.spec.driver, &slice.spec.pool.name)
}

/// The pods that use a claim.
pub fn users(claim: &ResourceClaim) -> Vec<ObjectKey> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    reserved_for(claim)
        .iter()
        .filter(|consumer| consumer.resource == "pods")
        .map(|consumer| ObjectKey::new(namespace, consumer.name.as_str()))
        .collect()
}

impl Seen {
    pub fn new(caches: &Caches, rules: Option<Cache<DeviceTaintRule>>) -> Self {
        let claims: Cache<ResourceClaim> = caches.cache();
        claims.add_index(BY_POOL, |claim| {
            let mut pools: Vec<Arc<str>> = results(claim).map(|result| pool(&result.driver, &result.pool)).collect();
            pools.sort();
            pools.dedup();
            pools
        });
        let slices: Cache<ResourceSlice> = caches.cache();
        slices.add_index(OF_POOL, |slice| vec![pool_of(slice)]);
        Seen { pods: caches.cache(), claims, slices, rules, evicted: Mutex::default(), wakers: Mutex::default() }
    }

    /// The pods that use devices of a pool.
    pub fn users_of_pool(&self, pool: &str) -> Vec<ObjectKey> {
        self.claims.by_index(BY_POOL, pool).iter().flat_map(|claim| users(claim)).collect()
    }

    /// The pods that use devices of pools that one of these rules means.
    pub fn users_of_rules(&self, rules: &[&DeviceTaintRule]) -> BTreeSet<ObjectKey> {
        let is_meant = |of: &&Arc<str>| of.split_once('/').is_some_and(|(driver, pool)| rules.iter().any(|rule| means_pool(rule, driver, pool)));
        self.claims.index_values(BY_POOL).iter().filter(is_meant).flat_map(|pool| self.users_of_pool(pool)).collect()
    }

    /// The slices of a pool as its driver publishes them today.
    fn published_of(&self, pool: &str) -> Vec<Arc<ResourceSlice>> {
        let mut slices = self.slices.by_index(OF_POOL, pool);
        let newest = slices.iter().map(|slice| slice.spec.pool.generation).max();
        slices.retain(|slice| Some(slice.spec.pool.generation) == newest);
        slices
    }

    fn device(&self, id: &DeviceId) -> Option<Device> {
        let slices = self.published_of(&pool(&id.driver, &id.pool));
        slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten()).find(|device| device.name == id.device).cloned()
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

    /// Whether a pod is on a node and neither ended nor being deleted.
    pub fn can_leave(pod: &Pod) -> bool {
        let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref().is_some_and(|node| !node.is_empty()));
        is_placed && pod.metadata.deletion_timestamp.is_none() && !is_finished(pod)
    }

    /// When a pod has to leave its devices, by what holds today.
    pub fn departure(&self, pod: &Pod) -> Option<Departure> {
        let rules = self.rules.as_ref().map(|rules| rules.list("")).unwrap_or_default();
        self.departure_by(pod, &rules)
    }

    fn departure_by(&self, pod: &Pod, rules: &[Arc<DeviceTaintRule>]) -> Option<Departure> {
        departure(&self.claims_of(pod), &|id| self.device(id), rules)
    }

    /// What there is of a rule. One without effect is looked at as if pods had to leave for it.
    pub fn counts(&self, rule: &DeviceTaintRule) -> Counts {
        let effect = rule.spec.taint.effect.as_str();
        let mut counts = Counts { evicted: self.evicted_by(&RuleRef::of(rule)), ..Counts::default() };
        if effect == "None" {
            let mut pretended = rule.clone();
            pretended.spec.taint.effect = EFFECT.to_owned();
            (counts.pods, counts.namespaces) = self.leaving(rule, &[Arc::new(pretended)]);
            counts.published = self.published(rule);
            counts.allocated = self.allocated(rule);
        } else if effect == EFFECT {
            (counts.pods, counts.namespaces) = self.leaving(rule, &[Arc::new(rule.clone())]);
        }
        counts
    }

    /// How many pods have to leave because of a rule, if there are these, and of how many namespaces.
    fn leaving(&self, rule: &DeviceTaintRule, rules: &[Arc<DeviceTaintRule>]) -> (usize, usize) {
        let wanted = RuleRef::of(rule);
        let is_leaving = |key: &&ObjectKey| {
            let pod = self.pods.get(key).map(|cached| cached.object).filter(|pod| Seen::can_leave(pod));
            pod.and_then(|pod| self.departure_by(&pod, rules)).is_some_and(|departure| departure.rules.contains(&wanted))
        };
        let users = self.users_of_rules(&[rule]);
        let leaving: Vec<&ObjectKey> = users.iter().filter(is_leaving).collect();
        let namespaces: BTreeSet<&Arc<str>> = leaving.iter().map(|key| &key.namespace).collect();
        (leaving.len(), namespaces.len())
    }

    /// How many published devices a rule means.
    fn published(&self, rule: &DeviceTaintRule) -> usize {
        let of_pool = |of: &Arc<str>| {
            let Some((driver, pool)) = of.split_once('/').filter(|(driver, pool)| means_pool(rule, driver, pool)) else { return 0 };
            let slices = self.published_of(of);
            let devices = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
            devices.filter(|device| taints_device(rule, driver, pool, &device.name)).count()
        };
        self.slices.index_values(OF_POOL).iter().map(of_pool).sum()
    }

    /// How many devices that claims have a rule means.
    fn allocated(&self, rule: &DeviceTaintRule) -> usize {
        let of_pool = |of: &Arc<str>| {
            let Some((driver, pool)) = of.split_once('/').filter(|(driver, pool)| means_pool(rule, driver, pool)) else { return 0 };
            let claims = self.claims.by_index(BY_POOL, of);
            let taken = claims.iter().flat_map(|claim| results(claim)).filter(|result| result.driver == driver && result.pool == pool);
            taken.filter(|result| taints_device(rule, driver, pool, &result.device)).count()
        };
        self.claims.index_values(BY_POOL).iter().map(of_pool).sum()
    }

    /// A pod went because of these rules.
    pub fn note_evicted(&self, rules: &BTreeSet<RuleRef>) {
        let mut evicted = self.evicted.lock();
        for rule in rules {
            let known = evicted.entry(rule.name.clone()).or_insert_with(|| (rule.clone(), 0));
            if known.0 != *rule {
                *known = (rule.clone(), 0);
            }
            known.1 += 1;
        }
    }

    fn evicted_by(&self, rule: &RuleRef) -> u64 {
        self.evicted.lock().get(&rule.name).filter(|(known, _)| known == rule).map_or(0, |(_, count)| *count)
    }

    /// A rule is gone.
    pub fn forget(&self, rule: &str) {
        self.evicted.lock().remove(rule);
    }

    /// From now on these pods are woken so.
    pub fn pods_are_woken_by(&self, waker: Waker) {
        self.wakers.lock().0 = Some(waker);
    }

    /// From now on rules are woken so.
    pub fn rules_are_woken_by(&self, waker: Waker) {
        self.wakers.lock().1 = Some(waker);
    }

    /// Pods are to be looked at.
    pub fn wake_pods(&self, pods: impl IntoIterator<Item = ObjectKey>, cause: &Cause) {
        // As long as nobody looks at pods, all are yet to be looked at.
        let Some(waker) = self.wakers.lock().0.clone() else { return };
        pods.into_iter().for_each(|pod| waker.wake(pod, cause.clone()));
    }

    /// Something came of rules.
    pub fn wake_rules(&self, rules: &BTreeSet<RuleRef>) {
        let Some(waker) = self.wakers.lock().1.clone() else { return };
        rules.iter().for_each(|rule| waker.wake(ObjectKey::cluster(rule.name.as_str()), Cause::default()));
    }
}

//! When a pod has to go, and because of which rules. Pure.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::resource::{
    v1::{Device, DeviceRequestAllocationResult, DeviceTaint, ResourceClaim, ResourceSlice},
    v1beta2::DeviceTaintRule,
};

use crate::devices::{DeviceId, results, taint_of, taints_device, tolerates};

/// The effect that pods have to leave for.
pub const EFFECT: &str = "NoExecute";

/// A rule, of which there may be another one of its name later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleRef {
    pub name: String,
    pub uid: String,
}

impl RuleRef {
    pub fn of(rule: &DeviceTaintRule) -> Self {
        RuleRef { name: rule.metadata.name.clone().unwrap_or_default(), uid: rule.metadata.uid.clone().unwrap_or_default() }
    }
}

/// When a pod has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    pub due: Timestamp,
    /// The rules whose taints its claims do not tolerate for good.
    pub rules: BTreeSet<RuleRef>,
}

/// Whether a slice has devices that pods have to leave.
pub fn is_evicting(slice: &ResourceSlice) -> bool {
    slice.spec.devices.iter().flatten().any(|device| device.taints.iter().flatten().any(|taint| taint.effect == EFFECT))
}

/// When whoever uses these claims has to go, by the devices that they have and by rules; `None` for never. Rules taint devices that are not
/// published, too.
pub fn departure(claims: &[Arc<ResourceClaim>], device: &dyn Fn(&DeviceId) -> Option<Device>, rules: &[Arc<DeviceTaintRule>]) -> Option<Departure> {
    let mut departure: Option<Departure> = None;
    for result in claims.iter().flat_map(|claim| results(claim)) {
        let id = DeviceId::of(result);
        let own = device(&id).and_then(|device| device.taints).unwrap_or_default().into_iter().map(|taint| (taint, None));
        let ruled = rules.iter().filter(|rule| taints_device(rule, &id.driver, &id.pool, &id.device));
        let ruled = ruled.map(|rule| (taint_of(rule), Some(RuleRef::of(rule))));
        for (taint, rule) in own.chain(ruled).filter(|(taint, _)| taint.effect == EFFECT) {
            let Some(due) = departure_for(result, &taint) else { continue };
            let known = departure.get_or_insert_with(|| Departure { due, rules: BTreeSet::new() });
            known.due = known.due.min(due);
            known.rules.extend(rule);
        }
    }
    departure
}

/// When a taint drives the users of a device away; `None` if it is tolerated for good.
fn departure_for(result: &DeviceRequestAllocationResult, taint: &DeviceTaint) -> Option<Timestamp> {
    let since = taint.time_added.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let tolerations = result.tolerations.iter().flatten();
    let covering = tolerations.filter(|toleration| toleration.effect.as_deref() == Some(EFFECT) && tolerates(toleration, taint));
    let mut least: Option<i64> = None;
    for toleration in covering {
        // Without seconds it is tolerated for good.
        let seconds = toleration.toleration_seconds?.max(0);
        least = Some(least.map_or(seconds, |least| least.min(seconds)));
    }
    let wait = SignedDuration::from_secs(least.unwrap_or(0));
    Some(since.checked_add(wait).unwrap_or(Timestamp::MAX))
}

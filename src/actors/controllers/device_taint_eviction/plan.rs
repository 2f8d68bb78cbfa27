//! When a pod has to go. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::resource::v1::{Device, DeviceRequestAllocationResult, DeviceTaint, ResourceClaim, ResourceSlice};

use crate::devices::{DeviceId, results, tolerates};

const EFFECT: &str = "NoExecute";

/// Whether a slice has devices that pods have to leave.
pub fn is_evicting(slice: &ResourceSlice) -> bool {
    slice.spec.devices.iter().flatten().any(|device| device.taints.iter().flatten().any(|taint| taint.effect == EFFECT))
}

/// When whoever uses these claims has to go, by the devices that they have; `None` for never.
pub fn departure(claims: &[Arc<ResourceClaim>], device: &dyn Fn(&DeviceId) -> Option<Device>) -> Option<Timestamp> {
    let devices = claims.iter().flat_map(|claim| results(claim));
    let departures = devices.filter_map(|result| {
        let taints = device(&DeviceId::of(result))?.taints.unwrap_or_default();
        taints.iter().filter(|taint| taint.effect == EFFECT).filter_map(|taint| departure_for(result, taint)).min()
    });
    departures.min()
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

//! Devices that have to be made ready before a pod is bound (KEP-5007, binding conditions).

use jiff::Timestamp;
use k8s_openapi::{
    api::resource::v1::{AllocatedDeviceStatus, DeviceRequestAllocationResult, ResourceClaim},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use std::time::Duration;

use crate::devices::{allocation, results};

/// How far a claim's devices are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    Waiting,
    /// The driver gave up.
    Failed(String),
}

fn has_conditions(result: &DeviceRequestAllocationResult) -> bool {
    result.binding_conditions.as_ref().is_some_and(|conditions| !conditions.is_empty())
}

/// Whether anything has to be waited for.
pub fn has_to_wait(claim: &ResourceClaim) -> bool {
    results(claim).any(has_conditions)
}

/// What drivers say of a claim's devices.
pub fn readiness(claim: &ResourceClaim) -> Readiness {
    let statuses = claim.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    for result in results(claim).filter(|result| has_conditions(result)) {
        let is_about =
            |status: &&AllocatedDeviceStatus| status.driver == result.driver && status.pool == result.pool && status.device == result.device;
        let Some(status) = statuses.iter().find(is_about) else { return Readiness::Waiting };
        let is_true = |kind: &String| -> Option<&Condition> {
            status.conditions.iter().flatten().find(|condition| condition.type_ == *kind && condition.status == "True")
        };
        if let Some(failed) = result.binding_failure_conditions.iter().flatten().find_map(is_true) {
            let why = format!("device binding failed: claim={name}, reason={}, message={:?}", failed.reason, failed.message);
            return Readiness::Failed(why);
        }
        if !result.binding_conditions.iter().flatten().all(|kind| is_true(kind).is_some()) {
            return Readiness::Waiting;
        }
    }
    Readiness::Ready
}

/// Whether a claim has waited for too long.
pub fn has_timed_out(claim: &ResourceClaim, patience: Duration, now: Timestamp) -> bool {
    let Some(since) = allocation(claim).and_then(|allocation| allocation.allocation_timestamp.as_ref()) else { return false };
    has_to_wait(claim) && now.duration_since(since.0) > patience.try_into().unwrap_or(jiff::SignedDuration::MAX)
}

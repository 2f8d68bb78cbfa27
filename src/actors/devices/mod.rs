//! What pods, claims for devices and slices of devices say of each other, as controllers, scheduler and kubelet read it
//! (resource.k8s.io, KEP-4381).

mod claims;
mod rules;
mod taints;

#[cfg(test)]
mod tests;

use std::fmt;

use k8s_openapi::api::resource::v1::{DeviceRequestAllocationResult, ResourceClaim};

pub use self::{
    claims::{
        FINALIZER, MOST_CONSUMERS, NameError, POD_CLAIM, allocation, can_be_reserved, claim_name, claim_owner, claims_of, consumer, extended_claim,
        is_for_pod, is_reserved_for, key_of, names_of_claims, reserved_for, results,
    },
    rules::{Rules, means_pool, taint_of, tainted, taints_device},
    taints::{is_harmful, tolerates},
};

/// A device of a driver's pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    pub driver: String,
    pub pool: String,
    pub device: String,
}

impl DeviceId {
    pub fn of(result: &DeviceRequestAllocationResult) -> Self {
        DeviceId { driver: result.driver.clone(), pool: result.pool.clone(), device: result.device.clone() }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.driver, self.pool, self.device)
    }
}

/// The devices that a claim takes, other than for administration.
pub fn taken_by(claim: &ResourceClaim) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    results(claim).filter(|result| result.admin_access != Some(true))
}

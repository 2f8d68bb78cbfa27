//! What the controller of claims counts.

use k8s_openapi::api::resource::v1::ResourceClaim;
use troupe_api::metrics::{Collect, Counter, Family};

static CREATED: Family<Counter> = Family::new(
    "resourceclaim_controller_creates_total",
    "Number of ResourceClaims creation requests, categorized by creation status and admin access",
    &["status", "admin_access"],
);

pub static COLLECTORS: &[&dyn Collect] = &[&CREATED];

/// A claim was to be made.
pub fn created(claim: &ResourceClaim, done: bool) {
    let requests = claim.spec.devices.as_ref().and_then(|devices| devices.requests.as_deref()).unwrap_or_default();
    let administers = requests.iter().any(|request| request.exactly.as_ref().is_some_and(|exact| exact.admin_access == Some(true)));
    CREATED.with(&[if done { "success" } else { "failure" }, if administers { "true" } else { "false" }]).increment();
}

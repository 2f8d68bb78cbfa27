//! CSI drivers.

use std::collections::HashSet;

use super::{super::Field, root};
use crate::{meta::Object, status::FieldError};

const SHORTEST_PERIOD: i64 = 10;
const SHORTEST_TOKEN: i64 = 600;
const LONGEST_TOKEN: i64 = 1 << 32;

/// Checks a new driver.
pub fn driver(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = root(object, "spec");
    // Upstream names the first of them so.
    for (field, shown) in [("attachRequired", "attachedRequired"), ("podInfoOnMount", "podInfoOnMount"), ("storageCapacity", "storageCapacity")] {
        flag(&mut errors, &spec, field, shown);
    }
    spec.child("fsGroupPolicy").check_supported(&mut errors, &["File", "None", "ReadWriteOnceWithFSType"]);
    let tokens = spec.child("tokenRequests");
    token_requests(&mut errors, &tokens);
    let modes = spec.child("volumeLifecycleModes");
    for mode in modes.each() {
        modes.with(mode.value).check_supported(&mut errors, &["Persistent", "Ephemeral"]);
    }
    flag(&mut errors, &spec, "seLinuxMount", "seLinuxMount");
    let period = spec.child("nodeAllocatableUpdatePeriodSeconds");
    if period.number().is_some_and(|seconds| seconds < SHORTEST_PERIOD) {
        errors.push(period.invalid(format!("must be greater than or equal to {SHORTEST_PERIOD} seconds")));
    }
    let secret = spec.child("serviceAccountTokenInSecrets");
    if secret.is_set() && tokens.items().is_empty() {
        errors.push(secret.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified"));
    }
    errors
}

fn flag(errors: &mut Vec<FieldError>, spec: &Field<'_>, field: &str, shown: &str) {
    if !spec.child(field).is_set() {
        errors.push(spec.child(shown).required(""));
    }
}

/// Checks the update of a driver.
pub fn driver_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = driver(new);
    let (spec, old) = (root(new, "spec"), root(old, "spec"));
    let attach = spec.child("attachRequired");
    spec.child("attachedRequired").with(attach.value).check_unchanged(&mut errors, old.child("attachRequired").value);
    spec.child("volumeLifecycleModes").check_unchanged(&mut errors, old.child("volumeLifecycleModes").value);
    errors
}

/// The tokens that a driver gets: one for each audience.
fn token_requests(errors: &mut Vec<FieldError>, requests: &Field<'_>) {
    let mut audiences = HashSet::new();
    for request in requests.each() {
        let (audience, seconds) = (request.child("audience"), request.child("expirationSeconds"));
        if !audiences.insert(audience.text().to_owned()) {
            errors.push(audience.duplicate_as(audience.text()));
            continue;
        }
        match seconds.number() {
            Some(number) if number < SHORTEST_TOKEN => errors.push(seconds.invalid("may not specify a duration less than 10 minutes")),
            Some(number) if number > LONGEST_TOKEN => errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds")),
            _ => {}
        }
    }
}

//! Which devices a claim got.

use serde_json::Value;

use super::{
    super::{
        Field,
        pod::{node_selector, volume_sources::driver_name},
    },
    MOST, bindings, config,
    constraints::RequestNames,
    fits, identifiers,
};
use crate::status::FieldError;

/// Of the class and of the claim.
const MOST_CONFIGS: usize = 2 * MOST;

/// Checks a new `status.allocation`.
pub fn allocation(errors: &mut Vec<FieldError>, allocation: &Field<'_>, requests: &RequestNames<'_>) {
    let devices = allocation.child("devices");
    let results = devices.child("results");
    if fits(errors, &results, MOST) {
        results.each().for_each(|result| allocated(errors, &result, requests));
    }
    let configs = devices.child("config");
    if fits(errors, &configs, MOST_CONFIGS) {
        for entry in configs.each() {
            entry.child("source").check_one_of(errors, &["FromClaim", "FromClass"]);
            requests.references(errors, &entry.child("requests"));
            config::configuration(errors, &entry, false);
        }
    }
    let selector = allocation.child("nodeSelector");
    if selector.is_set() {
        node_selector(errors, &selector);
    }
}

fn allocated(errors: &mut Vec<FieldError>, result: &Field<'_>, requests: &RequestNames<'_>) {
    requests.reference(errors, &result.child("request"));
    driver_name(errors, &result.child("driver"));
    identifiers::pool(errors, &result.child("pool"));
    identifiers::label(errors, &result.child("device"));
    bindings::conditions(errors, result);
    share(errors, &result.child("shareID"));
}

/// The part of a shared device, where there is one.
pub fn share(errors: &mut Vec<FieldError>, share: &Field<'_>) {
    if share.value != &Value::Null {
        identifiers::uid(errors, share);
    }
}

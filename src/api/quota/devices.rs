//! What resource claims cost: the claim itself, and the devices that it may get by device class.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    meta::{Object, amounts::Amounts},
    resources::tree::{at, items, text},
};

const CLASS_SUFFIX: &str = ".deviceclass.resource.k8s.io/devices";
const OBJECTS: &str = "count/resourceclaims.resource.k8s.io";
/// The most devices that one claim may get (`AllocationResultsMaxSize`): what "all" costs at worst.
const MOST_DEVICES: i64 = 32;

/// Whether a quota's resource name is about resource claims.
pub fn tracks(name: &str) -> bool {
    name == OBJECTS || name.ends_with(CLASS_SUFFIX)
}

/// What a claim costs. Of alternatives the worst counts for each class.
pub fn cost(claim: &Object) -> Amounts {
    let mut devices: BTreeMap<&str, i64> = BTreeMap::new();
    for request in claim.list(&["spec", "devices", "requests"]) {
        let mut most: BTreeMap<&str, i64> = BTreeMap::new();
        let exactly = at(request, &["exactly"]);
        let alternatives = items(request, &["firstAvailable"]);
        for asked in alternatives.iter().chain(alternatives.is_empty().then_some(exactly)).filter(|asked| asked.is_object()) {
            let worst = most.entry(text(asked, &["deviceClassName"])).or_default();
            *worst = (*worst).max(count(asked));
        }
        for (class, count) in most {
            let sum = devices.entry(class).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    let mut cost = Amounts::default();
    cost.count(OBJECTS, 1);
    for (class, count) in devices {
        cost.count(format!("{class}{CLASS_SUFFIX}"), count);
    }
    cost
}

fn count(asked: &Value) -> i64 {
    match text(asked, &["allocationMode"]) {
        "ExactCount" => at(asked, &["count"]).as_i64().unwrap_or(0),
        "All" => MOST_DEVICES,
        _ => 0,
    }
}

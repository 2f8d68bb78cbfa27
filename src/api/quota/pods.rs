//! What pods cost.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::pod_resources::{self, FOR_QUOTA};
use crate::{
    meta::{
        Object,
        amounts::Amounts,
        time::{parse_time, shifted_by_seconds},
    },
    resources::tree::at,
};

const FIXED: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// Every container must say these where a quota tracks them; upstream keeps this list short on purpose.
const MUST_SAY: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Whether a quota's resource name is about pods.
pub fn tracks(name: &str) -> bool {
    let requested = name.strip_prefix("requests.");
    let extended = requested.is_some_and(|resource| !is_native(name) || resource.starts_with(DEVICE_CLASS));
    FIXED.contains(&name) || requested.unwrap_or(name).starts_with("hugepages-") || extended
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Resources that nodes advertise beyond upstream's own.
fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") || name.starts_with(DEVICE_CLASS)
}

/// What a pod costs. One that ended, or should be gone by now, takes only its place in the store.
pub fn cost(pod: &Object, now: jiff::Timestamp) -> Amounts {
    let mut cost = Amounts::default();
    if is_charged(pod, now) {
        cost = compute(&pod_resources::requests(pod, FOR_QUOTA), &pod_resources::limits(pod, FOR_QUOTA));
    }
    cost.count("count/pods", 1);
    cost
}

/// Whether a pod's resources count.
pub fn is_charged(pod: &Object, now: jiff::Timestamp) -> bool {
    if matches!(pod.str(&["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    let grace = pod.int(&["metadata", "deletionGracePeriodSeconds"]);
    let deletion = parse_time(pod.str(&["metadata", "deletionTimestamp"])).ok();
    match (deletion, grace) {
        (Some(deletion), Some(grace)) => now <= shifted_by_seconds(deletion, grace),
        _ => true,
    }
}

fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut cost = Amounts::default();
    cost.count("pods", 1);
    for (name, amount) in requests.iter() {
        if matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            cost.set(name, amount);
            cost.set(format!("requests.{name}"), amount);
        } else if is_extended(name) {
            cost.set(format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| matches!(*name, "cpu" | "memory" | "ephemeral-storage")) {
        cost.set(format!("limits.{name}"), amount);
    }
    cost
}

/// What containers must say and don't: `must specify limits.cpu for: a,b; memory for: a`.
pub fn missing<'a>(names: impl Iterator<Item = &'a str>, pod: &Object) -> Option<String> {
    if pod_resources::has_pod_level(pod) {
        return None;
    }
    let wanted: BTreeSet<&str> = names.filter(|name| MUST_SAY.contains(name)).collect();
    let mut missing = BTreeMap::<&str, BTreeSet<&str>>::new();
    for container in ["containers", "initContainers"].into_iter().flat_map(|field| pod.list(&["spec", field])) {
        let said = said_by(container);
        for name in wanted.iter().copied().filter(|name| said.get(name).is_none()) {
            missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
        }
    }
    let parts: Vec<String> =
        missing.into_iter().map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))).collect();
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}

fn said_by(container: &Value) -> Amounts {
    let list = |side: &str| Amounts::read(Some(at(container, &["resources", side])));
    compute(&list("requests"), &list("limits"))
}

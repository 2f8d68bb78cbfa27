//! What the containers of a pod need together.

use serde_json::Value;

use super::tree::{at, items, text};
use crate::meta::quantity;

/// What all containers together need at any time, of their `requests` or `limits` of one resource in billionths: regular ones
/// and sidecars in sum, or the largest init container with the sidecars before it. `None` where no container says anything.
pub fn of_containers(spec: &Value, kind: &str, name: &str) -> Option<i128> {
    let amount = |container: &Value| quantity::value_nanos(at(container, &["resources", kind, name]));
    let regular: Vec<i128> = items(spec, &["containers"]).iter().filter_map(amount).collect();
    let (mut sidecars, mut peak, mut any) = (0_i128, 0_i128, !regular.is_empty());
    for init in items(spec, &["initContainers"]) {
        let Some(need) = amount(init) else { continue };
        any = true;
        if text(init, &["restartPolicy"]) == "Always" {
            sidecars = sidecars.saturating_add(need);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(need));
        }
    }
    let total = regular.into_iter().fold(sidecars, i128::saturating_add).max(peak);
    any.then_some(total)
}

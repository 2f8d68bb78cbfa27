//! Divisors of a pod's references to the resources of its containers. Upstream writes one that is not set as the quantity zero, which stands
//! for one.

use super::tree::{Fields, child, each, fill, is_unset};

/// The name of a field that refers to a resource, as it stands in JSON.
pub const REFERENCE: &str = "\"resourceFieldRef\"";
const NO_DIVISOR: &str = "0";
/// All containers of a pod.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Fills in those that are not set in the spec of a pod. Whether there was one.
pub fn fill_divisors(spec: &mut Fields) -> bool {
    let mut is_filled = false;
    for list in CONTAINERS {
        each(spec, list, |container| {
            each(container, "env", |variable| is_filled |= child(variable, "valueFrom").is_some_and(fill_divisor));
        });
    }
    each(spec, "volumes", |volume| {
        is_filled |= fill_items(volume);
        if let Some(projected) = child(volume, "projected") {
            each(projected, "sources", |source| is_filled |= fill_items(source));
        }
    });
    is_filled
}

/// The same of the files of a volume, or of one of its sources.
fn fill_items(source: &mut Fields) -> bool {
    let mut is_filled = false;
    if let Some(downward) = child(source, "downwardAPI") {
        each(downward, "items", |item| is_filled |= fill_divisor(item));
    }
    is_filled
}

/// The same of what may have a reference.
fn fill_divisor(holder: &mut Fields) -> bool {
    let Some(reference) = child(holder, "resourceFieldRef") else { return false };
    let is_missing = is_unset(reference, "divisor");
    fill(reference, "divisor", NO_DIVISOR);
    is_missing
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_divisor_that_is_not_set_is_zero() {
        let of = |reference: Value| {
            let variable = json!({"name": "A", "valueFrom": {"resourceFieldRef": reference}});
            let items = json!({"items": [{"path": "a", "resourceFieldRef": reference}]});
            json!({
                "containers": [{"name": "a", "env": [{"name": "B", "value": "b"}, variable]}], "initContainers": [{"name": "b", "env": [variable]}],
                "volumes": [{"name": "v", "downwardAPI": items}, {"name": "w", "projected": {"sources": [{"downwardAPI": items}, {}]}}],
            })
        };
        let wanted = of(json!({"resource": "limits.cpu", "divisor": "0"}));
        let mut spec = of(json!({"resource": "limits.cpu"}));
        assert!(fill_divisors(spec.as_object_mut().expect("fields")));
        assert_eq!(spec, wanted);
        assert!(!fill_divisors(spec.as_object_mut().expect("fields")), "nothing is missing any more");
        assert_eq!(spec, wanted);
    }
}

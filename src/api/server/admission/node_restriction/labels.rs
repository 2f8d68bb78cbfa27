//! The labels that a node may give itself. Pure.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::meta::Object;

/// Labels of Kubernetes' own that kubelets set.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const KUBELET_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// The labels that differ between the two and that a node may not touch, in order.
pub fn refused(new: &Object, old: Option<&Object>) -> Vec<String> {
    let labels = |object: &Object| object.get(&["metadata", "labels"]).and_then(Value::as_object).cloned().unwrap_or_default();
    let (new, old) = (labels(new), old.map(labels).unwrap_or_default());
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    keys.into_iter().filter(|key| new.get(*key) != old.get(*key) && !node_may_label(key)).cloned().collect()
}

/// Whether a node may label itself so.
pub fn node_may_label(label: &str) -> bool {
    let namespace = label.split_once('/').map_or("", |(namespace, _)| namespace);
    let within = |domain: &str| namespace == domain || namespace.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if within(RESTRICTED) {
        return false;
    }
    let of_kubernetes = within("kubernetes.io") || within("k8s.io");
    !of_kubernetes || KUBELET_LABELS.contains(&label) || KUBELET_NAMESPACES.into_iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_name_their_zone_but_not_their_role() {
        for label in ["kubernetes.io/hostname", "topology.kubernetes.io/zone", "example.com/rack", "rack", "x.node.kubernetes.io/y"] {
            assert!(node_may_label(label), "{label}");
        }
        for label in ["node-role.kubernetes.io/master", "node-restriction.kubernetes.io/x", "a.node-restriction.kubernetes.io/x", "k8s.io/x"] {
            assert!(!node_may_label(label), "{label}");
        }
    }
}

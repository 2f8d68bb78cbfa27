//! Which taints of nodes a pod tolerates.

use k8s_openapi::api::core::v1::{Node, PodSpec, Taint, Toleration};

/// The taints of a node.
pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Whether the node is unschedulable.
pub fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

/// Whether no taint keeps the pod from the node.
pub fn hard_taints_are_tolerated(spec: &PodSpec, node: &Node) -> bool {
    let mut hard = taints(node).iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    hard.all(|taint| tolerated(spec, taint))
}

/// Whether one of the pod's tolerations covers the taint.
pub fn tolerated(spec: &PodSpec, taint: &Taint) -> bool {
    spec.tolerations.iter().flatten().any(|toleration| tolerates(toleration, taint))
}

/// `v1.Toleration.ToleratesTaint`.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same_or_unset = |wanted: Option<&str>, actual: &str| wanted.is_none_or(|wanted| wanted.is_empty() || wanted == actual);
    if !same_or_unset(toleration.effect.as_deref(), &taint.effect) || !same_or_unset(toleration.key.as_deref(), &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
        _ => false,
    }
}

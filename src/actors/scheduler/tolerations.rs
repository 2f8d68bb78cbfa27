//! Which taints of nodes a pod tolerates.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint, Toleration};
use troupe_api::meta::decimal;

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

/// `v1.Toleration.ToleratesTaint`, with comparisons of numbers.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same_or_unset = |wanted: Option<&str>, actual: &str| wanted.is_none_or(|wanted| wanted.is_empty() || wanted == actual);
    if !same_or_unset(toleration.effect.as_deref(), &taint.effect) || !same_or_unset(toleration.key.as_deref(), &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
        "Lt" => compared(toleration, taint).is_some_and(|(bound, value)| value < bound),
        "Gt" => compared(toleration, taint).is_some_and(|(bound, value)| value > bound),
        _ => false,
    }
}

/// Whether a pod has got a toleration: the API lets none go.
pub fn gains_toleration(old: &Pod, new: &Pod) -> bool {
    let count = |pod: &Pod| pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).count();
    count(old) != count(new)
}

/// The numbers of a toleration and of a taint, where both are some.
fn compared(toleration: &Toleration, taint: &Taint) -> Option<(i64, i64)> {
    Some((decimal::parse(toleration.value.as_deref()?)?, decimal::parse(taint.value.as_deref()?)?))
}

/// Whether it compares numbers (KEP-5471).
pub fn compares(toleration: &Toleration) -> bool {
    matches!(toleration.operator.as_deref(), Some("Lt" | "Gt"))
}

/// The spec without tolerations that compare numbers: they tolerate nothing while the feature `TaintTolerationComparisonOperators` is off.
pub fn drop_comparisons(spec: &mut PodSpec) {
    if let Some(tolerations) = &mut spec.tolerations {
        tolerations.retain(|toleration| !compares(toleration));
    }
}

/// The same of a pod, which stays as it is where it has none.
pub fn without_comparisons(pod: Arc<Pod>) -> Arc<Pod> {
    let has_some = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).any(compares);
    if !has_some {
        return pod;
    }
    let mut pod = Arc::unwrap_or_clone(pod);
    pod.spec.iter_mut().for_each(drop_comparisons);
    Arc::new(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tolerates_value(operator: &str, bound: &str, value: &str) -> bool {
        let toleration = json!({"key": "k", "operator": operator, "value": bound, "effect": "NoSchedule"});
        let taint = json!({"key": "k", "value": value, "effect": "NoSchedule"});
        tolerates(&serde_json::from_value(toleration).expect("a toleration"), &serde_json::from_value(taint).expect("a taint"))
    }

    #[test]
    fn values_of_taints_are_compared_as_numbers() {
        assert!(tolerates_value("Gt", "9", "10") && !tolerates_value("Gt", "10", "10") && !tolerates_value("Gt", "11", "10"));
        assert!(tolerates_value("Lt", "-1", "-2") && !tolerates_value("Lt", "-2", "-2") && !tolerates_value("Lt", "-3", "-2"));
        for (bound, value) in [("a", "1"), ("1", "b"), ("", ""), ("01", "5"), ("1", "05"), ("9223372036854775808", "1")] {
            assert!(!tolerates_value("Gt", bound, value) && !tolerates_value("Lt", bound, value), "{bound} {value}");
        }
    }

    #[test]
    fn a_pod_without_comparisons_is_the_pod_itself() {
        let of = |tolerations: serde_json::Value| {
            let pod = json!({"spec": {"containers": [], "tolerations": tolerations}});
            Arc::new(serde_json::from_value::<Pod>(pod).expect("a pod"))
        };
        let exists = json!({"key": "a", "operator": "Exists"});
        let plain = of(json!([exists]));
        assert!(Arc::ptr_eq(&without_comparisons(plain.clone()), &plain));
        assert_eq!(without_comparisons(of(json!([{"key": "k", "operator": "Gt", "value": "1"}, exists]))), plain);
    }
}

//! Which nodes a pod's `nodeSelector` and node affinity match.

use k8s_openapi::api::core::v1::{self, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// The field by which a term can name nodes.
pub const NAME: &str = "metadata.name";

/// The required node affinity of a pod.
pub fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    node_affinity(spec)?.required_during_scheduling_ignored_during_execution.as_ref()
}

/// Whether the node has the labels of `nodeSelector` and matches the required node affinity.
pub fn required_matches(spec: &PodSpec, node: &Node) -> bool {
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| label(node, key) == Some(value));
    selected && required(spec).is_none_or(|selector| selector_matches(selector, node))
}

/// The node affinity of a pod.
pub fn node_affinity(spec: &PodSpec) -> Option<&v1::NodeAffinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a String> {
    node.metadata.labels.as_ref()?.get(key)
}

/// One matching term is enough; a term without any requirement matches nothing.
pub fn selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// A term without any requirement matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| if key == NAME { node.metadata.name.as_deref() } else { None };
    expressions.iter().all(|requirement| holds(requirement, label(node, &requirement.key).map(String::as_str)))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |holds: fn(i64, i64) -> bool| match (actual.and_then(|text| text.parse().ok()), values.first().and_then(|text| text.parse().ok())) {
        (Some(actual), Some(bound)) => holds(actual, bound),
        _ => false,
    };
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(|actual| values.iter().any(|value| value == actual)),
        "NotIn" => actual.is_none_or(|actual| values.iter().all(|value| value != actual)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => compare(|actual, bound| actual > bound),
        "Lt" => compare(|actual, bound| actual < bound),
        _ => false,
    }
}

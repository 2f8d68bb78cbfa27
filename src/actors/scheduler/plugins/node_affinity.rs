//! NodeAffinity: `nodeSelector` and node affinity, required and preferred.

use k8s_openapi::api::core::v1::{self, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection, normalize_to_largest},
    node_info::{NodeInfo, PodInfo},
};

/// See the module.
pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.pod.spec.as_ref().is_none_or(|spec| required_matches(spec, &node.node)) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"))
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let affinity = pod.pod.spec.as_ref().and_then(node_affinity);
        let preferred = affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref());
        let matching = preferred.unwrap_or_default().iter().filter(|term| term_matches(&term.preference, &node.node));
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_largest(scores, false);
    }

    fn weight(&self) -> i64 {
        2
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::NodeAdded | ClusterChange::NodeUpdated | ClusterChange::PodUpdated)
    }
}

/// Whether the node has the labels of `nodeSelector` and matches the required node affinity.
pub fn required_matches(spec: &PodSpec, node: &Node) -> bool {
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| label(node, key) == Some(value));
    let required = node_affinity(spec).and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| selector_matches(selector, node))
}

fn node_affinity(spec: &PodSpec) -> Option<&v1::NodeAffinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a String> {
    node.metadata.labels.as_ref()?.get(key)
}

/// Whether a node matches: one matching term is enough; a term without any requirement matches nothing.
pub fn selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| if key == "metadata.name" { node.metadata.name.as_deref() } else { None };
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

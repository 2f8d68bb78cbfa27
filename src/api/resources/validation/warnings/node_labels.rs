//! Labels of nodes that have another name today.

use serde_json::Value;

use crate::{
    meta::names,
    resources::{
        tree::{fields, items, text},
        validation::Field,
    },
};

const DEPRECATED: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    ("failure-domain.beta.kubernetes.io/region", "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// What whoever selects nodes by `label` is told.
pub(super) fn advice(label: &str) -> Option<&'static str> {
    DEPRECATED.iter().find(|(deprecated, _)| *deprecated == label).map(|(_, advice)| *advice)
}

/// Warnings about the labels of a map that nodes are selected by.
pub fn warn_of_map(selector: &Value, path: &str) -> Vec<String> {
    let labels = fields(selector, &[]).into_iter().flatten();
    labels.filter_map(|(label, _)| Some(format!("{path}: {}", advice(label)?))).collect()
}

/// Warnings about a `LabelSelector` of nodes.
pub fn warn_of_selector(selector: &Value, path: &str) -> Vec<String> {
    let expressions = items(selector, &["matchExpressions"]).iter().enumerate().filter_map(|(index, expression)| {
        let key = text(expression, &["key"]);
        Some(format!("{path}.matchExpressions[{index}].key: {key} is {}", advice(key)?))
    });
    let labels = fields(selector, &["matchLabels"]).into_iter().flatten();
    let labels = labels.filter_map(|(label, _)| Some(format!("{path}.matchLabels.{label}: {}", advice(label)?)));
    expressions.chain(labels).collect()
}

/// Warnings about a term of a node affinity. `values` asks whether nodes can have such labels at all.
pub(super) fn warn_of_term(warnings: &mut Vec<String>, term: &Field<'_>, values: bool) {
    for expression in term.child("matchExpressions").each() {
        let key = expression.child("key");
        warnings.extend(advice(key.text()).map(|advice| format!("{key}: {} is {advice}", key.text())));
        for value in expression.child("values").each().filter(|_| values) {
            warnings.extend(names::label_value(value.text()).iter().map(|why| format!("{value}: {} is invalid, {why}", value.text())));
        }
    }
}

/// Warnings about the topologies of a storage class.
pub fn warn_of_topologies(topologies: &Field<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for term in topologies.each() {
        for expression in term.child("matchLabelExpressions").each() {
            let key = expression.child("key");
            warnings.extend(advice(key.text()).map(|advice| format!("{key}: {advice}")));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_names_are_told_with_the_new_ones() {
        let selector = json!({"matchLabels": {"beta.kubernetes.io/os": "linux", "a": "b"}, "matchExpressions": [{"key": "beta.kubernetes.io/arch"}]});
        assert_eq!(
            warn_of_selector(&selector, "nodeTopology"),
            [
                "nodeTopology.matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
                "nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            ]
        );
        assert_eq!(
            warn_of_map(&json!({"node-role.kubernetes.io/master": ""}), "scheduling.nodeSelector"),
            ["scheduling.nodeSelector: use \"node-role.kubernetes.io/control-plane\" instead"]
        );
        let topologies = json!([{"matchLabelExpressions": [{"key": "app.kubernetes.io/created-by"}]}]);
        assert_eq!(
            warn_of_topologies(&Field::root("allowedTopologies", &topologies)),
            ["allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.9"]
        );
    }
}

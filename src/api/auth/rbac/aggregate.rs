//! Aggregation: the rules of a ClusterRole that gathers others by label. Pure; a controller applies it.

use k8s_openapi::{
    api::rbac::v1::{ClusterRole, PolicyRule},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use std::{collections::BTreeMap, sync::Arc};

/// The rules `role` should have: those of all roles its selectors match, each once, in order of selector and name.
/// `None` where `role` aggregates nothing. `roles` is in name order.
pub fn aggregate(role: &ClusterRole, roles: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref()?;
    let mut rules = Vec::<PolicyRule>::new();
    for selector in selectors {
        let gathered = roles.iter().filter(|other| other.metadata.name != role.metadata.name && selects(selector, other.metadata.labels.as_ref()));
        for rule in gathered.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let listed = |value: &String| requirement.values.iter().flatten().any(|wanted| wanted == value);
            match requirement.operator.as_str() {
                "In" => value(&requirement.key).is_some_and(listed),
                "NotIn" => !value(&requirement.key).is_some_and(listed),
                "Exists" => value(&requirement.key).is_some(),
                "DoesNotExist" => value(&requirement.key).is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(value: serde_json::Value) -> Arc<ClusterRole> {
        Arc::new(serde_json::from_value(value).expect("a cluster role"))
    }

    #[test]
    fn an_aggregated_role_gathers_each_rule_once() {
        let pods = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let nodes = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]});
        let view = role(
            json!({"metadata": {"name": "view", "labels": {"to": "view"}}, "rules": [nodes], "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]}}),
        );
        let roles = [
            role(json!({"metadata": {"name": "a", "labels": {"to": "view"}}, "rules": [pods, pods]})),
            role(json!({"metadata": {"name": "b", "labels": {"to": "edit"}}, "rules": [nodes]})),
            view.clone(),
        ];
        assert_eq!(json!(aggregate(&view, &roles)), json!([pods]));
        assert_eq!(aggregate(&roles[0], &roles), None);
    }
}

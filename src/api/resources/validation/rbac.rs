//! Roles and bindings.

use serde_json::Value;

use super::{Field, invalid_each, labels, required};
use crate::{
    meta::{Object, names},
    resources::tree::{items, text},
    status::FieldError,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a role or cluster role.
pub fn role(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    rules(&mut errors, object);
    aggregation(&mut errors, object);
    errors
}

fn rules(errors: &mut Vec<FieldError>, object: &Object) {
    let namespaced = object.kind() == "Role";
    for (index, rule) in object.list(&["rules"]).iter().enumerate() {
        let field = format!("rules[{index}]");
        if items(rule, &["verbs"]).is_empty() {
            errors.push(FieldError::required(format!("{field}.verbs"), "verbs must contain at least one value"));
        }
        let urls = items(rule, &["nonResourceURLs"]);
        let (groups, resources) = (items(rule, &["apiGroups"]), items(rule, &["resources"]));
        if !urls.is_empty() {
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(format!("{field}.nonResourceURLs"), urls.to_vec(), detail));
            }
            if !groups.is_empty() || !resources.is_empty() || !items(rule, &["resourceNames"]).is_empty() {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(format!("{field}.nonResourceURLs"), urls.to_vec(), detail));
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(FieldError::required(format!("{field}.apiGroups"), "resource rules must supply at least one api group"));
        }
        if resources.is_empty() {
            errors.push(FieldError::required(format!("{field}.resources"), "resource rules must supply at least one resource"));
        }
    }
}

/// The cluster roles whose rules are gathered.
fn aggregation(errors: &mut Vec<FieldError>, object: &Object) {
    let rule = Field::root("aggregationRule", object.get(&["aggregationRule"]).unwrap_or(&Value::Null));
    let selectors = rule.child("clusterRoleSelectors");
    if rule.is_set() && selectors.items().is_empty() {
        errors.push(selectors.required("at least one clusterRoleSelector required if aggregationRule is non-nil"));
    }
    for selector in selectors.each() {
        let before = errors.len();
        labels::selector(errors, &selector.to_string(), selector.value);
        if errors.len() > before {
            errors.push(selector.invalid_as(Value::Null, "invalid label selector."));
        }
    }
}

/// Checks a role binding or cluster role binding.
pub fn binding(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = object.str(&["roleRef", "apiGroup"]);
    if group != GROUP {
        errors.push(FieldError::not_supported("roleRef.apiGroup", group, &[GROUP]));
    }
    let kinds: &[&str] = if object.kind() == "ClusterRoleBinding" { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    let kind = object.str(&["roleRef", "kind"]);
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported("roleRef.kind", kind, kinds));
    }
    match object.str(&["roleRef", "name"]) {
        "" => errors.push(FieldError::required("roleRef.name", "")),
        name => invalid_each(&mut errors, "roleRef.name", name, names::path_segment(name, false)),
    }
    for (index, one) in object.list(&["subjects"]).iter().enumerate() {
        subject(&mut errors, one, object, &format!("subjects[{index}]"));
    }
    errors
}

fn subject(errors: &mut Vec<FieldError>, subject: &Value, object: &Object, field: &str) {
    let (kind, name, group) = (text(subject, &["kind"]), text(subject, &["name"]), text(subject, &["apiGroup"]));
    required(errors, &format!("{field}.name"), name);
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                invalid_each(errors, &format!("{field}.name"), name, names::subdomain(name, false));
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(format!("{field}.apiGroup"), group, &[""]));
            }
            if object.kind() == "ClusterRoleBinding" {
                required(errors, &format!("{field}.namespace"), text(subject, &["namespace"]));
            }
        }
        "User" | "Group" if group != GROUP => errors.push(FieldError::not_supported(format!("{field}.apiGroup"), group, &[GROUP])),
        "User" | "Group" => {}
        other => errors.push(FieldError::not_supported(format!("{field}.kind"), other, &["ServiceAccount", "User", "Group"])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::{object, texts};

    #[test]
    fn a_rule_is_about_resources_or_about_paths() {
        let both = json!({"verbs": ["get"], "nonResourceURLs": ["/a"], "resources": ["pods"]});
        let role_of = |kind: &str| texts(role(&object(json!({"kind": kind, "rules": [{}, both]}))));
        let missing = [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ];
        let mixed = "rules[1].nonResourceURLs: Invalid value: [\"/a\"]: rules cannot apply to both regular resources and non-resource URLs";
        let namespaced = "rules[1].nonResourceURLs: Invalid value: [\"/a\"]: namespaced rules cannot apply to non-resource URLs";
        assert_eq!(role_of("ClusterRole"), [&missing[..], &[mixed]].concat());
        assert_eq!(role_of("Role"), [&missing[..], &[namespaced, mixed]].concat());
    }

    #[test]
    fn what_a_cluster_role_gathers_is_selected() {
        let gathering = |rule: Value| texts(role(&object(json!({"kind": "ClusterRole", "aggregationRule": rule}))));
        let none = "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil";
        assert_eq!(gathering(json!({})), [none]);
        assert!(gathering(json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]})).is_empty());
        let odd = json!({"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Near"}]}]});
        assert_eq!(
            gathering(odd),
            [
                "aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator",
                "aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector.",
            ]
        );
    }

    #[test]
    fn a_binding_names_a_role_and_whom_it_is_for() {
        let subjects = json!([
            {"kind": "ServiceAccount", "name": "A", "apiGroup": "x"},
            {"kind": "User", "name": ""},
            {"kind": "Robot", "name": "r"},
        ]);
        let bad = json!({"kind": "ClusterRoleBinding", "subjects": subjects, "roleRef": {"apiGroup": "x", "kind": "Role", "name": "a/b"}});
        let said = texts(binding(&object(bad)));
        assert_eq!(
            said[..3],
            [
                "roleRef.apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
            ]
        );
        assert!(said[3].starts_with("subjects[0].name: Invalid value: \"A\": a lowercase RFC 1123 subdomain"), "{}", said[3]);
        assert_eq!(
            said[4..],
            [
                "subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"\"",
                "subjects[0].namespace: Required value",
                "subjects[1].name: Required value",
                "subjects[1].apiGroup: Unsupported value: \"\": supported values: \"rbac.authorization.k8s.io\"",
                "subjects[2].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ]
        );
    }
}

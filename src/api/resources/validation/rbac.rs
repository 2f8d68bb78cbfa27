//! Roles and bindings.

use serde_json::Value;

use super::{invalid_each, names, required};
use crate::{
    meta::Object,
    resources::tree::{items, text},
    status::FieldError,
};

/// Checks a role or cluster role.
pub fn role(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
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
    errors
}

/// Checks a role binding or cluster role binding.
pub fn binding(object: &Object) -> Vec<FieldError> {
    const GROUP: &str = "rbac.authorization.k8s.io";
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
    const GROUP: &str = "rbac.authorization.k8s.io";
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
            if object.kind() == "ClusterRoleBinding" || object.namespace().is_empty() {
                required(errors, &format!("{field}.namespace"), text(subject, &["namespace"]));
            }
        }
        "User" | "Group" if group != GROUP => errors.push(FieldError::not_supported(format!("{field}.apiGroup"), group, &[GROUP])),
        "User" | "Group" => {}
        other => errors.push(FieldError::not_supported(format!("{field}.kind"), other, &["ServiceAccount", "User", "Group"])),
    }
}

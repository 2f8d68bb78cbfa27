//! Which requests webhooks and policies are asked about: operations, groups, versions, resources, selectors.

use std::collections::HashSet;

use super::{MATCH_POLICIES, required_choice};
use crate::{
    meta::names::path_segment,
    resources::validation::{Field, labels},
    status::FieldError,
};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// Nothing is left to mutate of what is deleted.
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];

/// A rule of a webhook, or of a policy.
pub(super) fn rule(errors: &mut Vec<FieldError>, rule: &Field<'_>) {
    let operations = rule.child("operations");
    listed(errors, &operations, "operations");
    for operation in operations.each() {
        operation.check_supported(errors, &OPERATIONS);
    }
    listed(errors, &rule.child("apiGroups"), "API groups");
    let versions = rule.child("apiVersions");
    listed(errors, &versions, "API versions");
    for version in versions.each() {
        version.check_required(errors);
    }
    resources(errors, &rule.child("resources"));
    rule.child("scope").check_supported(errors, &SCOPES);
}

/// A list with something in it, where a wildcard stands alone.
fn listed(errors: &mut Vec<FieldError>, list: &Field<'_>, what: &str) {
    match list.items() {
        [] => errors.push(list.required("")),
        [_] => {}
        many if many.iter().any(|item| item == "*") => errors.push(list.invalid(format!("if '*' is present, must not specify other {what}"))),
        _ => {}
    }
}

/// Resources and subresources: none may be named twice by wildcards.
fn resources(errors: &mut Vec<FieldError>, list: &Field<'_>) {
    if list.items().is_empty() {
        errors.push(list.required(""));
    }
    let (mut wholly, mut everywhere) = (HashSet::new(), HashSet::new());
    let (mut all, mut bare) = (false, false);
    for entry in list.each() {
        let text = entry.text();
        let Some((resource, subresource)) = text.split_once('/') else {
            match text {
                "" => errors.push(entry.required("")),
                "*" => (all, bare) = (true, false),
                _ => bare = true,
            }
            continue;
        };
        if wholly.contains(resource) {
            errors.push(entry.invalid(format!("if '{resource}/*' is present, must not specify {text}")));
        }
        if everywhere.contains(subresource) {
            errors.push(entry.invalid(format!("if '*/{subresource}' is present, must not specify {text}")));
        }
        if subresource == "*" {
            wholly.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(subresource);
        }
    }
    if list.items().len() > 1 && list.items().iter().any(|entry| entry == "*/*") {
        errors.push(list.invalid("if '*/*' is present, must not specify other resources"));
    }
    if all && bare {
        errors.push(list.invalid("if '*' is present, must not specify other resources without subresources"));
    }
}

/// What a policy or a binding matches.
pub(super) fn match_resources(errors: &mut Vec<FieldError>, matches: &Field<'_>) {
    required_choice(errors, &matches.child("matchPolicy"), &MATCH_POLICIES);
    for name in ["namespaceSelector", "objectSelector"] {
        let selector = matches.child(name);
        match selector.is_set() {
            true => labels::selector(errors, &selector.to_string(), selector.value),
            false => errors.push(selector.required("")),
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        matches.child(list).each().for_each(|one| named_rule(errors, &one));
    }
}

fn named_rule(errors: &mut Vec<FieldError>, one: &Field<'_>) {
    let names = one.child("resourceNames");
    let mut seen = HashSet::new();
    for name in names.each() {
        name.judge(errors, path_segment(name.text(), false));
        if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
    }
    rule(errors, one);
}

/// Operations that nothing can be mutated at.
pub(super) fn mutating_operations(errors: &mut Vec<FieldError>, matches: &Field<'_>) {
    let rules = matches.child("resourceRules");
    for rule in rules.each() {
        for operation in rule.child("operations").each() {
            rules.child("operations").with(operation.value).check_supported(errors, &MUTATING_OPERATIONS);
        }
    }
}

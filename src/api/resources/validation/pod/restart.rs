//! When containers start again: after their end, and when they are resized.

use std::collections::BTreeSet;

use super::super::Field;
use crate::status::FieldError;

const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;

/// Checks a container's own restart policy and its rules.
pub fn policy(errors: &mut Vec<FieldError>, container: &Field<'_>) {
    let (policy, rules) = (container.child("restartPolicy"), container.child("restartPolicyRules"));
    policy.check_supported(errors, &["Always", "Never", "OnFailure"]);
    if !policy.is_set() && !rules.items().is_empty() {
        errors.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    if rules.items().len() > MOST_RULES {
        errors.push(rules.too_many(MOST_RULES));
    }
    for rule in rules.each() {
        let (action, codes) = (rule.child("action"), rule.child("exitCodes"));
        if !["Restart", "RestartAllContainers"].contains(&action.text()) {
            errors.push(action.with(&action.text().into()).not_supported(&["Restart", "RestartAllContainers"]));
        }
        if !codes.is_set() {
            errors.push(codes.required("must be specified"));
            continue;
        }
        let (operator, values) = (codes.child("operator"), codes.child("values"));
        if !["In", "NotIn"].contains(&operator.text()) {
            errors.push(operator.with(&operator.text().into()).not_supported(&["In", "NotIn"]));
        }
        if values.items().len() > MOST_EXIT_CODES {
            errors.push(values.too_many(MOST_EXIT_CODES));
        }
    }
}

/// Checks `resizePolicy`. As upstream, errors name the list.
pub fn on_resize(errors: &mut Vec<FieldError>, policies: &Field<'_>, pod_policy: &str) {
    let mut seen = BTreeSet::new();
    for entry in policies.each() {
        let (resource, restart) = (entry.child("resourceName"), entry.child("restartPolicy"));
        if !seen.insert(resource.text().to_owned()) {
            errors.push(entry.duplicate_as(resource.text()));
        }
        policies.with(resource.value).check_one_of(errors, &["cpu", "memory"]);
        policies.with(restart.value).check_one_of(errors, &["NotRequired", "RestartContainer"]);
        if pod_policy == "Never" && restart.text() != "NotRequired" {
            errors.push(policies.invalid_as(restart.text(), "must be 'NotRequired' when pod `restartPolicy` is 'Never'"));
        }
    }
}

/// An init container that ends has nothing to start again.
pub fn no_restart_on_resize(errors: &mut Vec<FieldError>, container: &Field<'_>) {
    for entry in container.child("resizePolicy").each() {
        let restart = entry.child("restartPolicy");
        if restart.text() == "RestartContainer" {
            errors.push(restart.invalid("must not be set to 'RestartContainer' for non-sidecar initContainers"));
        }
    }
}

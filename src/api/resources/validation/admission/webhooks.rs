//! Webhook configurations. What was taken once, by rules that came later, may stay in an update.

use std::collections::HashSet;

use serde_json::Value;

use super::{FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES, expressions, rules};
use crate::{
    meta::{Object, names},
    resources::{
        tree::{at, items, text},
        validation::{Field, labels, webhook_client},
    },
    status::FieldError,
};

const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

/// What an update may keep because the stored configuration has it.
#[derive(Clone, Copy, Default)]
struct Kept {
    side_effects: bool,
    unknown_versions: bool,
    equal_names: bool,
    label_values: bool,
    match_conditions: bool,
}

/// Checks a new mutating or validating webhook configuration.
pub fn create(object: &Object) -> Vec<FieldError> {
    check(object, Kept::default())
}

/// Checks an update of a webhook configuration.
pub fn update(new: &Object, old: &Object) -> Vec<FieldError> {
    let (before, after) = (old.list(&["webhooks"]), new.list(&["webhooks"]));
    let mut names = HashSet::new();
    let conditions = |webhook: &Value| items(webhook, &["matchConditions"]).to_vec();
    let kept = Kept {
        side_effects: before.iter().any(|webhook| !NO_SIDE_EFFECTS.contains(&text(webhook, &["sideEffects"]))),
        unknown_versions: before.iter().any(has_only_unknown_versions),
        equal_names: !before.iter().all(|webhook| names.insert(text(webhook, &["name"]))),
        label_values: before.iter().any(has_bad_selector),
        match_conditions: before.len() == after.len() && before.iter().zip(after).all(|(old, new)| conditions(old) == conditions(new)),
    };
    check(new, kept)
}

fn has_only_unknown_versions(webhook: &Value) -> bool {
    let versions = items(webhook, &["admissionReviewVersions"]);
    webhook_client::lists_none_of_ours(versions)
}

fn has_bad_selector(webhook: &Value) -> bool {
    let mut errors = Vec::new();
    for selector in ["namespaceSelector", "objectSelector"] {
        labels::selector(&mut errors, "", at(webhook, &[selector]));
    }
    !errors.is_empty()
}

fn check(object: &Object, kept: Kept) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let list = object.get(&["webhooks"]).unwrap_or(&Value::Null);
    let list = Field::root("webhooks", list);
    let mutating = object.kind() == "MutatingWebhookConfiguration";
    let mut seen = HashSet::new();
    for webhook in list.each() {
        one(&mut errors, &webhook, kept, mutating);
        let missing = format!("must specify one of {}", webhook_client::REVIEW_VERSIONS.join(", "));
        webhook_client::review_versions(&mut errors, &webhook.child("admissionReviewVersions"), &missing, kept.unknown_versions);
        let name = text(webhook.value, &["name"]);
        if !kept.equal_names && !name.is_empty() && !seen.insert(name) {
            errors.push(webhook.child("name").duplicate());
        }
    }
    errors
}

fn one(errors: &mut Vec<FieldError>, webhook: &Field<'_>, kept: Kept, mutating: bool) {
    qualified_name(errors, &webhook.child("name"));
    webhook.child("rules").each().for_each(|rule| rules::rule(errors, &rule));
    webhook.child("failurePolicy").check_supported(errors, &FAILURE_POLICIES);
    webhook.child("matchPolicy").check_supported(errors, &MATCH_POLICIES);
    side_effects(errors, &webhook.child("sideEffects"), kept);
    let timeout = webhook.child("timeoutSeconds");
    if timeout.number().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        selector_of(errors, &webhook.child(selector), kept);
    }
    if mutating {
        webhook.child("reinvocationPolicy").check_supported(errors, &REINVOCATION_POLICIES);
    }
    webhook_client::client_config(errors, &webhook.child("clientConfig"));
    if !kept.match_conditions {
        expressions::conditions_of_requests(errors, &webhook.child("matchConditions"), false);
    }
}

fn selector_of(errors: &mut Vec<FieldError>, selector: &Field<'_>, kept: Kept) {
    let mut found = Vec::new();
    labels::selector(&mut found, &selector.to_string(), selector.value);
    let values = format!("{selector}.matchExpressions[");
    found.retain(|error| !(kept.label_values && error.field.starts_with(&values) && error.field.contains("].values[")));
    errors.append(&mut found);
}

/// The name of a webhook: a domain of three segments or more.
fn qualified_name(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    let faults = names::subdomain(name.text(), false);
    if name.text().is_empty() {
        errors.push(name.required(""));
    } else if !faults.is_empty() {
        errors.push(name.invalid(faults.join(",")));
    } else if name.text().split('.').count() < 3 {
        errors.push(name.invalid("should be a domain with at least three segments separated by dots"));
    }
}

fn side_effects(errors: &mut Vec<FieldError>, effects: &Field<'_>, kept: Kept) {
    let allowed: &[&str] = if kept.side_effects { &SIDE_EFFECTS } else { &NO_SIDE_EFFECTS };
    match effects.is_set() {
        true => effects.check_supported(errors, allowed),
        false => errors.push(effects.required(format!("must specify one of {}", allowed.join(", ")))),
    }
}

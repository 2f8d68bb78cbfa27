//! Webhook configurations.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{invalid_each, labels, names, one_of, required};
use crate::{
    meta::Object,
    resources::tree::{at, int, items, text},
    status::FieldError,
};

/// Checks a mutating or validating webhook configuration.
pub fn webhooks(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, webhook) in object.list(&["webhooks"]).iter().enumerate() {
        let field = format!("webhooks[{index}]");
        let name = text(webhook, &["name"]);
        qualified_name(&mut errors, name, &format!("{field}.name"));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{field}.name"), name));
        }
        one_of(&mut errors, &format!("{field}.failurePolicy"), text(webhook, &["failurePolicy"]), &["Fail", "Ignore"]);
        one_of(&mut errors, &format!("{field}.matchPolicy"), text(webhook, &["matchPolicy"]), &["Equivalent", "Exact"]);
        side_effects(&mut errors, text(webhook, &["sideEffects"]), &format!("{field}.sideEffects"));
        let seconds = int(webhook, &["timeoutSeconds"]);
        if !(1..=30).contains(&seconds) {
            let detail = "the timeout value must be between 1 and 30 seconds";
            errors.push(FieldError::invalid(format!("{field}.timeoutSeconds"), seconds, detail));
        }
        for selector in ["namespaceSelector", "objectSelector"] {
            labels::selector(&mut errors, &format!("{field}.{selector}"), at(webhook, &[selector]));
        }
        if items(webhook, &["admissionReviewVersions"]).is_empty() {
            let detail = "must specify one of v1, v1beta1";
            errors.push(FieldError::required(format!("{field}.admissionReviewVersions"), detail));
        }
        for (rule_index, one) in items(webhook, &["rules"]).iter().enumerate() {
            rule(&mut errors, one, &format!("{field}.rules[{rule_index}]"));
        }
        client(&mut errors, at(webhook, &["clientConfig"]), &format!("{field}.clientConfig"));
    }
    errors
}

fn qualified_name(errors: &mut Vec<FieldError>, name: &str, field: &str) {
    required(errors, field, name);
    if name.is_empty() {
        return;
    }
    let messages = names::subdomain(name, false);
    if !messages.is_empty() {
        errors.push(FieldError::invalid(field, name, messages.join(",")));
    } else if name.split('.').count() < 3 {
        errors.push(FieldError::invalid(field, name, "should be a domain with at least three segments separated by dots"));
    }
}

fn side_effects(errors: &mut Vec<FieldError>, effects: &str, field: &str) {
    let known = ["None", "NoneOnDryRun"];
    if effects.is_empty() {
        errors.push(FieldError::required(field, "must specify one of None, NoneOnDryRun"));
    } else if !known.contains(&effects) {
        errors.push(FieldError::not_supported(field, effects, &known));
    }
}

fn rule(errors: &mut Vec<FieldError>, rule: &Value, field: &str) {
    for list in ["operations", "apiGroups", "apiVersions", "resources"] {
        let values = items(rule, &[list]);
        if values.is_empty() {
            errors.push(FieldError::required(format!("{field}.{list}"), ""));
        }
        if values.len() > 1 && values.iter().any(|value| value == "*") && list != "resources" {
            let detail = "if '*' is present, must not specify other ".to_owned() + if list == "operations" { "operations" } else { "values" };
            errors.push(FieldError::invalid(format!("{field}.{list}"), values.to_vec(), detail));
        }
    }
    for (index, operation) in items(rule, &["operations"]).iter().filter_map(Value::as_str).enumerate() {
        let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
        if !known.contains(&operation) {
            errors.push(FieldError::not_supported(format!("{field}.operations[{index}]"), operation, &known));
        }
    }
}

fn client(errors: &mut Vec<FieldError>, client: &Value, field: &str) {
    let (url, service) = (at(client, &["url"]), at(client, &["service"]));
    match (url.as_str(), service.is_object()) {
        (None, false) | (Some(_), true) => errors.push(FieldError::required(field, "exactly one of url or service is required")),
        (Some(url), false) => {
            if !url.starts_with("https://") {
                errors.push(FieldError::invalid(
                    format!("{field}.url"),
                    url,
                    "'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ));
            }
        }
        (None, true) => {
            for name in ["name", "namespace"] {
                let value = text(service, &[name]);
                if value.is_empty() {
                    errors.push(FieldError::required(format!("{field}.service.{name}"), format!("service {name} is required")));
                } else {
                    invalid_each(errors, &format!("{field}.service.{name}"), value, names::label(value, false));
                }
            }
        }
    }
}

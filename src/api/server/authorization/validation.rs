//! What is wrong with an `AuthorizationConfiguration`, in upstream's words.

use std::{collections::BTreeSet, path::Path};

use troupe_api::{meta::names, status::FieldError};

use super::{
    conditions,
    config::{AuthorizationConfiguration, ConnectionInfo, WebhookConfiguration},
};

const TYPES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const MOST_CONDITIONS: usize = 64;
const LONGEST_TIMEOUT: i64 = 30_000_000_000;

/// Everything that is wrong.
pub fn faults(configuration: &AuthorizationConfiguration) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if configuration.authorizers.is_empty() {
        errors.push(FieldError::required("authorizers", "at least one authorization mode must be defined"));
    }
    let (mut types, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (index, authorizer) in configuration.authorizers.iter().enumerate() {
        let field = format!("authorizers[{index}]");
        let (kind, name) = (authorizer.kind.as_str(), authorizer.name.as_str());
        let of_type = format!("{field}.type");
        if kind.is_empty() {
            errors.push(FieldError::required(of_type, ""));
            continue;
        }
        if !TYPES.contains(&kind) {
            errors.push(FieldError::not_supported(of_type, kind, &TYPES));
            continue;
        }
        if !types.insert(kind) && kind != "Webhook" {
            errors.push(FieldError::duplicate(of_type, kind));
            continue;
        }
        errors.extend(name_fault(name, &seen, &format!("{field}.name")));
        seen.insert(name);
        match (&authorizer.webhook, kind) {
            (Some(webhook), "Webhook") => errors.extend(webhook_faults(webhook, &field)),
            (None, "Webhook") => errors.push(FieldError::required(format!("{field}.webhook"), "required when type=Webhook")),
            (Some(_), _) => {
                errors.push(FieldError::invalid(format!("{field}.webhook"), "non-null", "may only be specified when type=Webhook"));
            }
            (None, _) => {}
        }
    }
    errors
}

fn name_fault(name: &str, seen: &BTreeSet<&str>, field: &str) -> Option<FieldError> {
    if name.is_empty() {
        return Some(FieldError::required(field, ""));
    }
    if seen.contains(name) {
        return Some(FieldError::duplicate(field, name));
    }
    let odd = names::subdomain(name, false);
    (!odd.is_empty()).then(|| FieldError::invalid(field, name, format!("authorizer name is invalid: {}", odd.join(", "))))
}

fn webhook_faults(webhook: &WebhookConfiguration, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = |name: &str| format!("{field}.{name}");
    let shown = |nanos: i64| format!("{}s", nanos as f64 / 1e9);
    match webhook.timeout {
        0 => errors.push(FieldError::required(at("timeout"), "")),
        nanos if !(0..=LONGEST_TIMEOUT).contains(&nanos) => {
            errors.push(FieldError::invalid(at("timeout"), shown(nanos), "must be > 0s and <= 30s"));
        }
        _ => {}
    }
    for (name, nanos) in [("authorizedTTL", webhook.authorized_ttl), ("unauthorizedTTL", webhook.unauthorized_ttl)] {
        match nanos {
            0 => errors.push(FieldError::required(at(name), "")),
            nanos if nanos < 0 => errors.push(FieldError::invalid(at(name), shown(nanos), "must be > 0s")),
            _ => {}
        }
    }
    let mut one_of = |name: &str, given: &str, allowed: &[&str]| match given {
        "" => errors.push(FieldError::required(at(name), "")),
        odd if !allowed.contains(&odd) => errors.push(FieldError::not_supported(at(name), odd, allowed)),
        _ => {}
    };
    one_of("subjectAccessReviewVersion", &webhook.subject_access_review_version, &["v1", "v1beta1"]);
    one_of("failurePolicy", &webhook.failure_policy, &["NoOpinion", "Deny"]);
    match webhook.match_condition_subject_access_review_version.as_str() {
        "" if !webhook.match_conditions.is_empty() => {
            let why = "required if match conditions are specified";
            errors.push(FieldError::required(at("matchConditionSubjectAccessReviewVersion"), why));
        }
        "" | "v1" => {}
        odd => errors.push(FieldError::not_supported(at("matchConditionSubjectAccessReviewVersion"), odd, &["v1"])),
    }
    errors.extend(connection_fault(&webhook.connection_info, &at("connectionInfo")));
    errors.extend(condition_faults(webhook, field));
    errors
}

fn connection_fault(connection: &ConnectionInfo, field: &str) -> Option<FieldError> {
    let file = connection.kube_config_file.as_deref().unwrap_or_default();
    let at = format!("{field}.kubeConfigFile");
    match connection.kind.as_str() {
        "" => Some(FieldError::required(format!("{field}.type"), "")),
        "KubeConfigFile" if file.is_empty() => Some(FieldError::required(at, "")),
        "KubeConfigFile" if !Path::new(file).is_absolute() => Some(FieldError::invalid(at, file, "must be an absolute path")),
        "KubeConfigFile" => match std::fs::metadata(file) {
            Err(error) => Some(FieldError::invalid(at, file, format!("error loading file: {error}"))),
            Ok(found) if !found.is_file() => Some(FieldError::invalid(at, file, "must be a regular file")),
            Ok(_) => None,
        },
        // This server is in no cluster.
        odd => Some(FieldError::not_supported(format!("{field}.type"), odd, &["KubeConfigFile"])),
    }
}

fn condition_faults(webhook: &WebhookConfiguration, field: &str) -> Vec<FieldError> {
    let field = format!("{field}.matchConditions");
    if webhook.match_conditions.len() > MOST_CONDITIONS {
        return vec![FieldError::too_many(field, webhook.match_conditions.len(), MOST_CONDITIONS)];
    }
    let (mut errors, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, condition) in webhook.match_conditions.iter().enumerate() {
        let (at, text) = (format!("{field}[{index}].expression"), condition.expression.as_str());
        if text.trim().is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !seen.insert(text) {
            errors.push(FieldError::duplicate(at, text));
        } else if let Err(why) = conditions::compile(text) {
            errors.push(FieldError::invalid(at, text, why));
        }
    }
    errors
}

//! Jobs.

use serde_json::{Value, json};

use super::{IMMUTABLE, job_policies, labels, non_negative, workload::pod_template};
use crate::{
    meta::{Object, names},
    resources::tree::{at, int, text},
    status::FieldError,
};

const NUMBERS: [&str; 7] =
    ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes"];
const PARALLELISM_OF_INDEXED: i64 = 100_000;
const FAILED_INDEXES: i64 = 100_000;
/// Above so many completions, limits per index are kept in narrower bounds.
const MANY_COMPLETIONS: i64 = 100_000;
const LIMIT_OF_MANY: i64 = 10_000;
const LONGEST_MANAGER: usize = 63;
/// What a path may have beside letters and digits.
const PATH_BYTES: &[u8] = b"/-._~%!$&'()*+,;=:";
const BAD_PATH: &str = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";

fn spec(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// Checks a job.
pub fn job(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    generated_selector(&mut errors, object, true);
    with_selector(&mut errors, spec(object));
    let completions = int(spec(object), &["completions"]);
    if text(spec(object), &["completionMode"]) == "Indexed" && completions > 0 {
        let hostname = format!("{}-{}", object.name(), completions - 1);
        if !names::label(&hostname, false).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
            errors.push(FieldError::invalid("metadata.name", object.name(), detail));
        }
    }
    errors
}

fn with_selector(errors: &mut Vec<FieldError>, spec: &Value) {
    job_spec(errors, spec, "spec");
    match at(spec, &["selector"]) {
        Value::Null => errors.push(FieldError::required("spec.selector", "")),
        selector => labels::selector(errors, "spec.selector", selector),
    }
    let template_labels = at(spec, &["template", "metadata", "labels"]);
    if !labels::matches(at(spec, &["selector"]), template_labels) {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", template_labels.clone(), detail));
    }
}

/// A selector that the server made must still be what it made, and so must the labels it selects.
fn generated_selector(errors: &mut Vec<FieldError>, object: &Object, with_prefixed: bool) {
    let selector = at(spec(object), &["selector"]);
    if at(spec(object), &["manualSelector"]).as_bool() == Some(true) || selector.is_null() {
        return;
    }
    let template_labels = at(spec(object), &["template", "metadata", "labels"]);
    let prefixes: &[&str] = if with_prefixed { &["", "batch.kubernetes.io/"] } else { &[""] };
    let mut expected = json!({});
    for prefix in prefixes {
        for (key, wanted) in [("controller-uid", object.uid()), ("job-name", object.name())] {
            let key = format!("{prefix}{key}");
            let found = template_labels.get(&key).and_then(Value::as_str).unwrap_or("");
            let field = format!("spec.template.metadata.labels[{key}]");
            if found.is_empty() && !wanted.is_empty() {
                errors.push(FieldError::required(field, format!("must be '{wanted}'")));
            } else if found != wanted {
                errors.push(FieldError::invalid(field, template_labels.clone(), format!("must be '{wanted}'")));
            }
            expected[key] = wanted.into();
        }
    }
    if !labels::matches(selector, &expected) {
        errors.push(FieldError::invalid("spec.selector", selector.clone(), "`selector` not auto-generated"));
    }
}

/// Checks the spec of a job or of a cron job's template.
pub(super) fn job_spec(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    for name in NUMBERS {
        non_negative(errors, spec, path, name);
    }
    let has = |name: &str| !at(spec, &[name]).is_null();
    if has("maxFailedIndexes") && !has("backoffLimitPerIndex") {
        errors.push(FieldError::required(format!("{path}.backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if let Some(manager) = at(spec, &["managedBy"]).as_str() {
        managed_by(errors, manager, &format!("{path}.managedBy"));
    }
    match text(spec, &["completionMode"]) {
        "Indexed" => indexed(errors, spec, path),
        "NonIndexed" | "" => {
            for name in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
                let value = at(spec, &[name]);
                if !value.is_null() {
                    errors.push(FieldError::invalid(format!("{path}.{name}"), value.clone(), "requires indexed completion mode"));
                }
            }
        }
        other => errors.push(FieldError::not_supported(format!("{path}.completionMode"), other, &["NonIndexed", "Indexed"])),
    }
    job_policies::failure(errors, spec, path);
    if has("successPolicy") && text(spec, &["completionMode"]) == "Indexed" {
        job_policies::success(errors, spec, path);
    }
    job_policies::replacement(errors, spec, path);
    pod_template(errors, at(spec, &["template"]), &format!("{path}.template"));
    restart_policy(errors, spec, path);
}

fn restart_policy(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    let field = format!("{path}.template.spec.restartPolicy");
    match text(spec, &["template", "spec", "restartPolicy"]) {
        "Always" | "" => errors.push(FieldError::required(field, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if !at(spec, &["podFailurePolicy"]).is_null() => {
            errors.push(FieldError::invalid(field, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified"));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(FieldError::not_supported(field, other, &["OnFailure", "Never"])),
    }
}

/// A domain and a path, like `example.com/controller`.
fn managed_by(errors: &mut Vec<FieldError>, manager: &str, field: &str) {
    match manager.split_once('/') {
        _ if manager.is_empty() => errors.push(FieldError::required(field, "")),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            super::invalid_each(errors, field, domain, names::subdomain(domain, false));
            if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || PATH_BYTES.contains(&byte)) {
                errors.push(FieldError::invalid(field, path, BAD_PATH));
            }
        }
        _ => errors.push(FieldError::invalid(field, manager, "must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
    if manager.len() > LONGEST_MANAGER {
        errors.push(FieldError::too_long(field, LONGEST_MANAGER));
    }
}

fn indexed(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    let completions = at(spec, &["completions"]);
    if completions.is_null() {
        errors.push(FieldError::required(format!("{path}.completions"), "when completion mode is Indexed"));
    }
    let (parallelism, failed) = (int(spec, &["parallelism"]), int(spec, &["maxFailedIndexes"]));
    let mut at_most = |field: &str, value: i64, most: i64, when: &str| {
        if value > most {
            errors.push(FieldError::invalid(format!("{path}.{field}"), value, format!("must be less than or equal to {most}{when}")));
        }
    };
    at_most("parallelism", parallelism, PARALLELISM_OF_INDEXED, " when completion mode is Indexed");
    let completions = completions.as_i64().unwrap_or(i64::MAX);
    at_most("maxFailedIndexes", failed, FAILED_INDEXES, "");
    let many = completions != i64::MAX && completions > MANY_COMPLETIONS && !at(spec, &["backoffLimitPerIndex"]).is_null();
    if many {
        let when = format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
        at_most("parallelism", parallelism, LIMIT_OF_MANY, &when);
        at_most("maxFailedIndexes", failed, LIMIT_OF_MANY, &when);
    }
    if failed > completions {
        errors.push(FieldError::invalid(format!("{path}.maxFailedIndexes"), failed, "must be less than or equal to completions"));
    }
    if many && at(spec, &["maxFailedIndexes"]).is_null() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(FieldError::required(format!("{path}.maxFailedIndexes"), detail));
    }
}

/// Checks an update of a job. While it is suspended and has no pods, it may still change where they go and what they use.
pub fn job_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let old_labels = at(spec(old), &["template", "metadata", "labels"]);
    let prefixed = ["batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid"].iter().all(|key| old_labels.get(key).is_some());
    generated_selector(&mut errors, new, prefixed);
    with_selector(&mut errors, spec(new));
    completions_update(&mut errors, spec(new), spec(old));
    for field in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        let (now, before) = (at(spec(new), &[field]), at(spec(old), &[field]));
        if now != before {
            errors.push(FieldError::invalid(format!("spec.{field}"), now.clone(), IMMUTABLE));
        }
    }
    template_update(&mut errors, spec(new), spec(old), is_at_rest(old));
    errors
}

/// Of a job at rest only the spec of its pods is compared, without what may change there.
fn template_update(errors: &mut Vec<FieldError>, new: &Value, old: &Value, is_at_rest: bool) {
    let (path, field): (&[&str], _) = if is_at_rest { (&["template", "spec"], "spec.template.spec") } else { (&["template"], "spec.template") };
    let part = |spec: &Value| {
        let mut part = at(spec, path).clone();
        if is_at_rest {
            loosen(&mut part);
        }
        part
    };
    if part(new) != part(old) {
        errors.push(FieldError::invalid(field, at(new, path).clone(), IMMUTABLE));
    }
}

/// Indexed jobs may grow and shrink, with their parallelism.
fn completions_update(errors: &mut Vec<FieldError>, new: &Value, old: &Value) {
    let (now, before) = (at(new, &["completions"]), at(old, &["completions"]));
    if now == before || (text(new, &["completionMode"]) == "Indexed" && now.is_null()) {
        return;
    }
    if text(new, &["completionMode"]) != "Indexed" {
        errors.push(FieldError::invalid("spec.completions", now.clone(), IMMUTABLE));
    } else if now != at(new, &["parallelism"]) {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid("spec.completions", now.clone(), detail));
    }
}

/// Suspended, and seen to be so by its controller.
fn is_at_rest(old: &Object) -> bool {
    let suspended = at(spec(old), &["suspend"]).as_bool() == Some(true);
    let not_started = old.get(&["status", "startTime"]).is_none_or(Value::is_null);
    let said = old
        .list(&["status", "conditions"])
        .iter()
        .any(|condition| text(condition, &["type"]) == "Suspended" && text(condition, &["status"]) == "True");
    suspended && (not_started || said) && old.int(&["status", "active"]).unwrap_or(0) == 0
}

/// Takes out of a spec of pods what may change.
fn loosen(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else { return };
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        spec.remove(field);
    }
    if let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) {
        affinity.remove("nodeAffinity");
    }
    if spec.get("affinity").is_some_and(|affinity| affinity.as_object().is_none_or(serde_json::Map::is_empty)) {
        spec.remove("affinity");
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers.filter_map(Value::as_object_mut) {
            container.remove("resources");
        }
    }
}

//! Jobs and cron jobs.

use serde_json::Value;

use super::{IMMUTABLE, labels, non_negative, workload::pod_template};
use crate::{
    meta::Object,
    resources::tree::{at, int, text},
    status::FieldError,
};

const NUMBERS: [&str; 7] =
    ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes"];
const PARALLELISM_OF_INDEXED: i64 = 100_000;

fn spec(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// Checks a job.
pub fn job(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = spec(object);
    job_spec(&mut errors, spec, "spec");
    match at(spec, &["selector"]) {
        Value::Null => errors.push(FieldError::required("spec.selector", "")),
        selector => labels::selector(&mut errors, "spec.selector", selector),
    }
    if at(spec, &["manualSelector"]).as_bool() != Some(true) {
        generated_labels(&mut errors, object);
    }
    let template_labels = at(spec, &["template", "metadata", "labels"]);
    if !labels::matches(at(spec, &["selector"]), template_labels) {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", template_labels.clone(), detail));
    }
    errors
}

/// Labels that the server sets must be what it sets.
fn generated_labels(errors: &mut Vec<FieldError>, object: &Object) {
    let template_labels = at(spec(object), &["template", "metadata", "labels"]);
    for prefix in ["", "batch.kubernetes.io/"] {
        for (key, wanted) in [("controller-uid", object.uid()), ("job-name", object.name())] {
            let key = format!("{prefix}{key}");
            let found = template_labels.get(&key).and_then(Value::as_str).unwrap_or("");
            let field = format!("spec.template.metadata.labels[{key}]");
            if found.is_empty() && !wanted.is_empty() {
                errors.push(FieldError::required(field, format!("must be '{wanted}'")));
            } else if found != wanted {
                errors.push(FieldError::invalid(field, template_labels.clone(), format!("must be '{wanted}'")));
            }
        }
    }
}

fn job_spec(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    for name in NUMBERS {
        non_negative(errors, spec, path, name);
    }
    if !at(spec, &["maxFailedIndexes"]).is_null() && at(spec, &["backoffLimitPerIndex"]).is_null() {
        errors.push(FieldError::required(format!("{path}.backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
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
    pod_template(errors, at(spec, &["template"]), &format!("{path}.template"));
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

fn indexed(errors: &mut Vec<FieldError>, spec: &Value, path: &str) {
    let completions = at(spec, &["completions"]);
    if completions.is_null() {
        errors.push(FieldError::required(format!("{path}.completions"), "when completion mode is Indexed"));
    }
    let parallelism = int(spec, &["parallelism"]);
    if parallelism > PARALLELISM_OF_INDEXED {
        let detail = format!("must be less than or equal to {PARALLELISM_OF_INDEXED} when completion mode is Indexed");
        errors.push(FieldError::invalid(format!("{path}.parallelism"), parallelism, detail));
    }
    let failed = int(spec, &["maxFailedIndexes"]);
    if completions.as_i64().is_some_and(|completions| failed > completions) {
        errors.push(FieldError::invalid(format!("{path}.maxFailedIndexes"), failed, "must be less than or equal to completions"));
    }
}

/// Checks an update of a job. A suspended job that has not started may still change where its pods go.
pub fn job_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    job_spec(&mut errors, spec(new), "spec");
    let mut fixed = vec!["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
    let elastic = text(spec(new), &["completionMode"]) == "Indexed"
        && at(spec(new), &["completions"]) == at(spec(new), &["parallelism"])
        && at(spec(old), &["completions"]) == at(spec(old), &["parallelism"]);
    if !elastic {
        fixed.push("completions");
    }
    for field in fixed {
        let (now, before) = (at(spec(new), &[field]), at(spec(old), &[field]));
        if now != before {
            errors.push(FieldError::invalid(format!("spec.{field}"), now.clone(), IMMUTABLE));
        }
    }
    let template = |object: &Object| {
        let mut template = at(spec(object), &["template"]).clone();
        if may_move(old) {
            loosen(&mut template);
        }
        template
    };
    if template(new) != template(old) {
        errors.push(FieldError::invalid("spec.template", at(spec(new), &["template"]).clone(), IMMUTABLE));
    }
    errors
}

fn may_move(old: &Object) -> bool {
    let suspended = at(spec(old), &["suspend"]).as_bool() == Some(true);
    suspended && old.get(&["status", "startTime"]).is_none_or(Value::is_null)
}

fn loosen(template: &mut Value) {
    let Some(template) = template.as_object_mut() else { return };
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
            spec.remove(field);
        }
    }
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("labels");
        metadata.remove("annotations");
    }
}

/// Checks the status of a job: what is finished stays finished.
pub fn job_status(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = new.get(&["status"]).unwrap_or(&Value::Null);
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        non_negative(&mut errors, status, "status", field);
    }
    let is_true = |object: &Object, kind: &str| {
        let conditions = object.list(&["status", "conditions"]);
        conditions.iter().any(|condition| text(condition, &["type"]) == kind && text(condition, &["status"]) == "True")
    };
    if is_true(new, "Complete") && is_true(new, "Failed") {
        let conditions = new.list(&["status", "conditions"]).to_vec();
        errors.push(FieldError::invalid("status.conditions", conditions, "cannot set Complete=True and Failed=true conditions"));
    }
    for kind in ["Complete", "Failed"] {
        if is_true(old, kind) && !is_true(new, kind) {
            let conditions = new.list(&["status", "conditions"]).to_vec();
            errors.push(FieldError::invalid("status.conditions", conditions, format!("cannot disable the terminal {kind}=True condition")));
        }
    }
    errors
}

/// Checks a cron job.
pub fn cron_job(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (spec(object), Vec::new());
    match text(spec, &["schedule"]) {
        "" => errors.push(FieldError::required("spec.schedule", "")),
        schedule => cron_schedule(&mut errors, schedule),
    }
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        non_negative(&mut errors, spec, "spec", field);
    }
    if let Some(zone) = at(spec, &["timeZone"]).as_str() {
        time_zone(&mut errors, zone);
    }
    super::one_of(&mut errors, "spec.concurrencyPolicy", text(spec, &["concurrencyPolicy"]), &["Allow", "Forbid", "Replace"]);
    let job = at(spec, &["jobTemplate", "spec"]);
    job_spec(&mut errors, job, "spec.jobTemplate.spec");
    if at(job, &["manualSelector"]).as_bool() == Some(true) {
        errors.push(FieldError::not_supported("spec.jobTemplate.spec.manualSelector", true, &["nil", "false"]));
    }
    if object.name().len() > 52 {
        errors.push(FieldError::invalid("metadata.name", object.name(), "must be no more than 52 characters"));
    }
    errors
}

fn cron_schedule(errors: &mut Vec<FieldError>, schedule: &str) {
    if schedule.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid("spec.schedule", schedule, detail));
        return;
    }
    let fields = schedule.split_whitespace().count();
    if !schedule.starts_with('@') && fields != 5 {
        let detail = format!("expected exactly 5 fields, found {fields}: [{}]", schedule.split_whitespace().collect::<Vec<_>>().join(" "));
        errors.push(FieldError::invalid("spec.schedule", schedule, detail));
    }
}

fn time_zone(errors: &mut Vec<FieldError>, zone: &str) {
    if zone.is_empty() {
        errors.push(FieldError::invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string"));
    } else if zone.eq_ignore_ascii_case("local") {
        errors.push(FieldError::invalid(
            "spec.timeZone",
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ));
    } else if jiff::tz::TimeZone::get(zone).is_err() {
        errors.push(FieldError::invalid("spec.timeZone", zone, format!("unknown time zone {zone}")));
    }
}

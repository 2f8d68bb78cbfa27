//! Cron jobs.

use serde_json::Value;

use super::{job::job_spec, non_negative};
use crate::{
    meta::Object,
    resources::{
        cron,
        tree::{at, text},
    },
    status::FieldError,
};

/// The controller appends eleven characters to the name for that of a job.
const LONGEST_NAME: usize = 52;

fn spec(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// Checks a new cron job.
pub fn cron_job(object: &Object) -> Vec<FieldError> {
    let mut errors = cron_job_spec(spec(object), None);
    if object.name().len() > LONGEST_NAME {
        errors.push(FieldError::invalid("metadata.name", object.name(), "must be no more than 52 characters"));
    }
    errors
}

/// Checks a changed cron job: what older rules let in may stay.
pub fn cron_job_update(new: &Object, old: &Object) -> Vec<FieldError> {
    cron_job_spec(spec(new), Some(spec(old)))
}

fn cron_job_spec(spec: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let old_zone_in_schedule = old.is_some_and(|old| text(old, &["schedule"]).contains("TZ"));
    match text(spec, &["schedule"]) {
        "" => errors.push(FieldError::required("spec.schedule", "")),
        schedule => check_schedule(&mut errors, schedule, old_zone_in_schedule, at(spec, &["timeZone"])),
    }
    non_negative(&mut errors, spec, "spec", "startingDeadlineSeconds");
    let zone = at(spec, &["timeZone"]);
    if let Some(name) = zone.as_str().filter(|_| old.is_none_or(|old| at(old, &["timeZone"]) != zone)) {
        time_zone(&mut errors, name);
    }
    super::one_of(&mut errors, "spec.concurrencyPolicy", text(spec, &["concurrencyPolicy"]), &["Allow", "Forbid", "Replace"]);
    let job = at(spec, &["jobTemplate", "spec"]);
    job_spec(&mut errors, job, "spec.jobTemplate.spec");
    let selector = at(job, &["selector"]);
    if !selector.is_null() {
        errors.push(FieldError::invalid("spec.jobTemplate.spec.selector", selector.clone(), "`selector` will be auto-generated"));
    }
    if at(job, &["manualSelector"]).as_bool() == Some(true) {
        errors.push(FieldError::not_supported("spec.jobTemplate.spec.manualSelector", true, &["nil", "false"]));
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        non_negative(&mut errors, spec, "spec", field);
    }
    errors
}

fn check_schedule(errors: &mut Vec<FieldError>, schedule: &str, zone_allowed: bool, zone: &Value) {
    let named = schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ="));
    let fields = named.and_then(|rest| rest.split_once(' ')).map_or(schedule, |(_, fields)| fields.trim());
    if let Err(error) = cron::parse(fields) {
        errors.push(FieldError::invalid("spec.schedule", schedule, error));
    }
    if !schedule.contains("TZ") {
        return;
    }
    if !zone_allowed {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid("spec.schedule", schedule, detail));
    } else if !zone.is_null() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid("spec.schedule", schedule, detail));
    }
}

fn time_zone(errors: &mut Vec<FieldError>, zone: &str) {
    let mut invalid = |detail: String| errors.push(FieldError::invalid("spec.timeZone", zone, detail));
    if zone.is_empty() {
        return invalid("timeZone must be nil or non-empty string".into());
    }
    if !zone.split('/').all(is_zone_part) {
        return invalid(format!("unknown time zone {zone}"));
    }
    if zone.eq_ignore_ascii_case("Local") {
        invalid("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".into());
    }
    // Names are those of files, as where Go looks for them: capitals count.
    let is_known = || jiff::tz::TimeZone::get(zone).is_ok_and(|known| known.iana_name() == Some(zone));
    if zone != "Local" && !is_known() {
        invalid(format!("unknown time zone {zone}"));
    }
}

/// A part of a name like `America/New_York`.
fn is_zone_part(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    (1..=14).contains(&part.len()) && !matches!(part, "." | "..") && !part.starts_with('-') && part.bytes().all(allowed)
}

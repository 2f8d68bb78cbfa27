//! Jobs and cron jobs.

use serde_json::{Value, json};

use super::{empty_status, number_field, pod_spec::default_template, split_update};
use crate::{
    meta::{Clock, Object, time::parse_time},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, boolean, container_cells, container_columns, elapsed, integer, name, or_none, selector_or_none, since, string, wide},
        resource::age_of,
        tree::{at, descend, each, fill, items, text},
        validation::{cron_job, job, job_status, warnings},
    },
    status::FieldError,
};

/// The rules of jobs.
#[derive(Default)]
pub struct Job;

impl Strategy for Job {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
            fill(spec, "completions", 1);
        }
        fill(spec, "parallelism", 1);
        let limit = if spec.contains_key("backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
        fill(spec, "backoffLimit", limit);
        fill(spec, "completionMode", "NonIndexed");
        fill(spec, "suspend", false);
        let replacement = if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
        fill(spec, "podReplacementPolicy", replacement);
        fill(spec, "manualSelector", false);
        default_failure_policy(spec);
        if has_all_labels(object) {
            label_as_template(object);
        }
        default_template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        generate_selector(object);
        // In upstream a job without labels shares its template's, also those that it has just put there.
        label_as_template(object);
        empty_status(object);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn deletion_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        job::job(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { job_status::job_status(new, old) } else { job::job_update(new, old) }
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        (path == "status.successful").then(|| number_field(object, &["status", "succeeded"]))?
    }

    fn warnings_on_create(&self, object: &Object) -> Vec<String> {
        warnings::pod_name(object, "Pod names and hostnames")
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::job("spec", object.get(&["spec"]).unwrap_or(&Value::Null))
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            name(),
            string("Status", "Status of the job."),
            string("Completions", "The number of pods which reached phase Succeeded."),
            string("Duration", "Time required to complete the job."),
            age(),
            containers,
            images,
            wide("Selector", "A label query over pods that should match the pod count."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let [containers, images] = container_cells(at(spec, &["template", "spec"]));
        vec![
            object.name().into(),
            job_state(object).into(),
            completions(object).into(),
            duration(object, clock).into(),
            age_of(object, clock).into(),
            containers,
            images,
            selector_or_none(at(spec, &["selector"])).into(),
        ]
    }
}

fn default_failure_policy(spec: &mut crate::resources::tree::Fields) {
    if let Some(policy) = descend(spec, &["podFailurePolicy"]) {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |condition| fill(condition, "status", "True"));
        });
    }
}

/// Whether its template has the labels that pods are selected by: those that are generated come later.
fn has_all_labels(object: &Object) -> bool {
    is_selected_manually(object) || object.get(&["spec", "template", "metadata", "labels", "batch.kubernetes.io/controller-uid"]).is_some()
}

fn is_selected_manually(object: &Object) -> bool {
    object.get(&["spec", "manualSelector"]).and_then(Value::as_bool) == Some(true)
}

/// A job without labels has those of its pods.
fn label_as_template(object: &mut Object) {
    if let Some(labels) = object.get(&["spec", "template", "metadata", "labels"]).cloned() {
        object.set_default(&["metadata", "labels"], labels);
    }
}

/// Pods of a job carry its uid, so that its selector never meets another's pods. The uid is given before.
/// What the user wrote stays, for validation to judge.
fn generate_selector(object: &mut Object) {
    if is_selected_manually(object) {
        return;
    }
    let (uid, name) = (object.uid().to_owned(), object.name().to_owned());
    for prefix in ["", "batch.kubernetes.io/"] {
        object.set_default(&["spec", "template", "metadata", "labels", &format!("{prefix}controller-uid")], uid.clone());
        object.set_default(&["spec", "template", "metadata", "labels", &format!("{prefix}job-name")], name.clone());
    }
    object.set_default(&["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"], uid);
}

fn has_condition(object: &Object, kind: &str) -> bool {
    let condition = object.list(&["status", "conditions"]).iter().find(|condition| text(condition, &["type"]) == kind);
    condition.is_some_and(|condition| text(condition, &["status"]) == "True")
}

fn job_state(object: &Object) -> &'static str {
    for (condition, state) in [("Complete", "Complete"), ("Failed", "Failed")] {
        if has_condition(object, condition) {
            return state;
        }
    }
    if object.is_terminating() {
        return "Terminating";
    }
    for (condition, state) in [("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet")] {
        if has_condition(object, condition) {
            return state;
        }
    }
    "Running"
}

fn completions(object: &Object) -> String {
    let succeeded = object.int(&["status", "succeeded"]).unwrap_or(0);
    match (object.int(&["spec", "completions"]), object.int(&["spec", "parallelism"]).unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(object: &Object, clock: &dyn Clock) -> String {
    let Ok(start) = parse_time(object.str(&["status", "startTime"])) else { return String::new() };
    let end = parse_time(object.str(&["status", "completionTime"])).unwrap_or_else(|_| clock.now());
    elapsed(start, end)
}

/// The rules of cron jobs.
#[derive(Default)]
pub struct CronJob;

impl Strategy for CronJob {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        fill(spec, "jobTemplate", json!({}));
        if let Some(job) = descend(spec, &["jobTemplate"]) {
            fill(job, "metadata", json!({}));
            if let Some(spec) = descend(job, &["spec"]) {
                default_failure_policy(spec);
            }
        }
        default_template(object, &["spec", "jobTemplate", "spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        empty_status(object);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        cron_job::cron_job(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { Vec::new() } else { cron_job::cron_job_update(new, old) }
    }

    fn warnings_on_create(&self, object: &Object) -> Vec<String> {
        warnings::pod_name(object, "Pod names and hostnames")
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::cron_job(object)
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            name(),
            string("Schedule", "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron."),
            string("Timezone", "The time zone of the schedule."),
            boolean("Suspend", "Whether further runs are suspended."),
            integer("Active", "The jobs that run now."),
            string("Last Schedule", "When a job was last scheduled."),
            age(),
            containers,
            images,
            wide("Selector", "A label query over pods that should match the pod count."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let [containers, images] = container_cells(at(spec, &["jobTemplate", "spec", "template", "spec"]));
        let last = object.str(&["status", "lastScheduleTime"]);
        let suspended = at(spec, &["suspend"]).as_bool();
        vec![
            object.name().into(),
            text(spec, &["schedule"]).into(),
            or_none(text(spec, &["timeZone"])).into(),
            suspended.map_or("<unset>", |suspended| if suspended { "True" } else { "False" }).into(),
            items(object.get(&["status"]).unwrap_or(&Value::Null), &["active"]).len().into(),
            if last.is_empty() { "<none>".into() } else { since(last, clock).into() },
            age_of(object, clock).into(),
            containers,
            images,
            selector_or_none(at(spec, &["jobTemplate", "spec", "selector"])).into(),
        ]
    }
}

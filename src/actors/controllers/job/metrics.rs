//! What the controller of jobs counts, under upstream's names.

use std::time::Duration;

use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobStatus},
    core::v1::Pod,
};
use troupe_api::{
    metrics::{Collect, Counter, Family, Histogram, exponential},
    projection::MetaProjection,
};

use super::{
    FINALIZER,
    failure_policy::applied_action,
    indexes::Indexes,
    plan::Action,
    pod::JobPod,
    template::{has_backoff_per_index, is_indexed},
    view::has_failed,
};
use crate::{controllers::pods::is_finished, runtime::cache::Change};

const SECONDS: [f64; 15] = exponential(0.004, 2.0);

static SYNC_DURATIONS: Family<Histogram> = Family::histogram(
    "job_controller_job_sync_duration_seconds",
    "The time it took to sync a job",
    &["completion_mode", "result", "action"],
    &SECONDS,
);
static SYNCS: Family<Counter> = Family::new("job_controller_job_syncs_total", "The number of job syncs", &["completion_mode", "result", "action"]);
static FINISHED: Family<Counter> =
    Family::new("job_controller_jobs_finished_total", "The number of finished jobs", &["completion_mode", "result", "reason"]);
static PODS_FINISHED: Family<Counter> =
    Family::new("job_controller_job_pods_finished_total", "The number of finished Pods that are fully tracked", &["completion_mode", "result"]);
static INDEXES_FINISHED: Family<Counter> = Family::new(
    "job_controller_job_finished_indexes_total",
    "The number of finished indexes. Possible values for the\n\t\t\tstatus label are: \"succeeded\", \"failed\". Possible values for the\n\t\t\tbackoffLimit label are: \"perIndex\" and \"global\"",
    &["status", "backoffLimit"],
);
static POLICY_ACTIONS: Family<Counter> = Family::new(
    "job_controller_pod_failures_handled_by_failure_policy_total",
    "The number of failed Pods handled by failure policy with\n\t\t\trespect to the failure policy action applied based on the matched\n\t\t\trule. Possible values of the action label correspond to the\n\t\t\tpossible values for the failure policy rule action, which are:\n\t\t\t\"FailJob\", \"Ignore\" and \"Count\".",
    &["action"],
);
static TERMINATED: Family<Counter> = Family::new(
    "job_controller_terminated_pods_tracking_finalizer_total",
    "The number of terminated pods (phase=Failed|Succeeded)\nthat have the finalizer batch.kubernetes.io/job-tracking\nThe event label can be \"add\" or \"delete\".",
    &["event"],
);

/// What the controller of jobs counts.
pub static COLLECTORS: [&dyn Collect; 7] = [&INDEXES_FINISHED, &PODS_FINISHED, &SYNC_DURATIONS, &SYNCS, &FINISHED, &POLICY_ACTIONS, &TERMINATED];

fn mode(job: &Job) -> &'static str {
    if is_indexed(job) { "Indexed" } else { "NonIndexed" }
}

/// What a sync does to the pods of a job that is not finished, as upstream calls it: `reconciling` where it makes none and ends none but
/// those of a job that has its verdict.
pub(super) fn action(job: &Job, actions: &[Action]) -> &'static str {
    let suspended = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
    if job.metadata.deletion_timestamp.is_some() || has_verdict(job, actions) {
        return "reconciling";
    }
    if suspended || actions.iter().any(|action| matches!(action, Action::DeletePod { .. })) {
        return "pods_deleted";
    }
    if actions.iter().any(|action| matches!(action, Action::CreatePods(_))) { "pods_created" } else { "tracking" }
}

/// Whether the job is about to end. That enough pods succeeded turns out only after its pods were looked after.
fn has_verdict(job: &Job, actions: &[Action]) -> bool {
    let planned = actions.iter().find_map(|action| if let Action::UpdateStatus(status) = action { Some(&**status) } else { None });
    let is_verdict = |condition: &&JobCondition| matches!(&*condition.type_, "FailureTarget" | "SuccessCriteriaMet") && condition.status == "True";
    let of = |status: Option<&JobStatus>| status.and_then(|status| status.conditions.as_ref()?.iter().find(is_verdict).cloned());
    let is_late = |verdict: JobCondition| verdict.reason.as_deref() == Some("CompletionsReached");
    of(job.status.as_ref()).is_some() || of(planned).is_some_and(|verdict| !is_late(verdict))
}

/// A sync ended after so long.
pub(super) fn synced(job: &Job, action: &'static str, done: bool, took: Duration) {
    let labels = [mode(job), if done { "success" } else { "error" }, action];
    SYNC_DURATIONS.with(&labels).observe_time(took);
    SYNCS.with(&labels).increment();
}

/// The status of a job was written.
pub(super) fn wrote(job: &Job, after: &JobStatus) {
    let none = JobStatus::default();
    let before = job.status.as_ref().unwrap_or(&none);
    let is_end = |condition: &&JobCondition| matches!(&*condition.type_, "Complete" | "Failed") && condition.status == "True";
    if let Some(end) = after.conditions.iter().flatten().find(is_end)
        && !before.conditions.iter().flatten().any(|condition| is_end(&condition))
    {
        let result = if end.type_ == "Complete" { "succeeded" } else { "failed" };
        FINISHED.with(&[mode(job), result, end.reason.as_deref().unwrap_or_default()]).increment();
    }
    let succeeded = if is_indexed(job) { indexes_finished(job, before, after) } else { grown(before.succeeded, after.succeeded) };
    PODS_FINISHED.with(&[mode(job), "succeeded"]).add(succeeded);
    PODS_FINISHED.with(&[mode(job), "failed"]).add(grown(before.failed, after.failed));
}

/// Counts the indexes that finished; how many of them succeeded.
fn indexes_finished(job: &Job, before: &JobStatus, after: &JobStatus) -> u64 {
    let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(0);
    let count = |indexes: &Option<String>| Some(Indexes::parse(indexes.as_deref().unwrap_or_default(), completions).len());
    let (per_index, succeeded) = (has_backoff_per_index(job), grown(count(&before.completed_indexes), count(&after.completed_indexes)));
    let limit = if per_index { "perIndex" } else { "global" };
    INDEXES_FINISHED.with(&["succeeded", limit]).add(succeeded);
    if per_index {
        INDEXES_FINISHED.with(&["failed", limit]).add(grown(count(&before.failed_indexes), count(&after.failed_indexes)));
    }
    succeeded
}

/// By how much a number grew. Those of a job that is run anew begin with none.
fn grown(before: Option<i32>, after: Option<i32>) -> u64 {
    u64::try_from(after.unwrap_or(0).saturating_sub(before.unwrap_or(0))).unwrap_or(0)
}

/// A pod is counted and let go.
pub(super) fn released(job: &Job, pod: &JobPod) {
    if has_failed(job, pod)
        && let Some(action) = applied_action(job, pod)
    {
        POLICY_ACTIONS.with(&[action]).increment();
    }
}

/// A pod changed. Only pods that this controller tracks are decoded.
pub(super) fn saw(change: &Change<Pod>) {
    let is_tracked = |meta: Option<&MetaProjection>| meta.is_some_and(|meta| meta.finalizers.iter().any(|finalizer| **finalizer == *FINALIZER));
    let was = is_tracked(change.meta_before()) && change.before().is_some_and(|pod| is_finished(pod));
    let is = is_tracked(change.meta_after()) && change.after().is_some_and(|pod| is_finished(pod));
    if was != is {
        TERMINATED.with(&[if is { "add" } else { "delete" }]).increment();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use troupe_api::metrics::{parse::Samples, render};

    use super::*;
    use crate::{controllers::job::template::NewPod, runtime::cache::digest_of};

    fn job(mode: &str, status: Value) -> Job {
        let spec = json!({"completionMode": mode, "completions": 4, "selector": {}, "template": {"spec": {"containers": []}}});
        serde_json::from_value(json!({"metadata": {"name": "work", "namespace": "n"}, "spec": spec, "status": status})).expect("a job")
    }

    fn status(status: Value) -> JobStatus {
        serde_json::from_value(status).expect("a status")
    }

    fn ends(kind: &str, reason: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": reason}])
    }

    /// A sample of the page; other tests of this process count as well.
    fn counted(name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        samples.value(&format!("job_controller_{name}"), labels).unwrap_or_default()
    }

    #[test]
    fn syncs_are_counted_by_what_they_do() {
        let labels = [("completion_mode", "Indexed"), ("result", "error"), ("action", "counted")];
        synced(&job("Indexed", json!({})), "counted", false, Duration::from_millis(100));
        assert_eq!(counted("job_syncs_total", &labels), 1.0);
        let page = render(&COLLECTORS);
        let page = std::str::from_utf8(&page).expect("text");
        let named = "job_controller_job_sync_duration_seconds_bucket{completion_mode=\"Indexed\",result=\"error\",action=\"counted\",le=";
        assert!(page.contains(&format!("{named}\"0.064\"}} 0\n")) && page.contains(&format!("{named}\"0.128\"}} 1\n")), "{page}");
        assert!(page.contains("# HELP job_controller_job_syncs_total The number of job syncs\n# TYPE job_controller_job_syncs_total counter\n"));
    }

    #[test]
    fn an_action_is_what_happens_to_pods() {
        let plain = job("NonIndexed", json!({}));
        let delete = |tracked| Action::DeletePod { pod: "a".into(), uid: "u".into(), tracked };
        let create = Action::CreatePods(vec![NewPod::default()]);
        let write = |conditions: Value| Action::UpdateStatus(Box::new(status(json!({"conditions": conditions}))));
        assert_eq!(action(&plain, &[]), "tracking");
        assert_eq!(action(&plain, std::slice::from_ref(&create)), "pods_created");
        assert_eq!(action(&plain, &[delete(false), create]), "pods_deleted");
        assert_eq!(action(&plain, &[delete(true), write(ends("FailureTarget", "BackoffLimitExceeded"))]), "reconciling");
        assert_eq!(action(&plain, &[write(ends("SuccessCriteriaMet", "CompletionsReached"))]), "tracking", "pods were looked after before");
        let known = job("NonIndexed", json!({"conditions": ends("SuccessCriteriaMet", "CompletionsReached")}));
        assert_eq!(action(&known, &[]), "reconciling");
    }

    #[test]
    fn a_job_counts_as_finished_once() {
        let labels = [("completion_mode", "NonIndexed"), ("result", "failed"), ("reason", "Counted")];
        let end = status(json!({"conditions": ends("Failed", "Counted")}));
        wrote(&job("NonIndexed", json!({})), &end);
        wrote(&job("NonIndexed", json!({"conditions": ends("Failed", "Counted")})), &end);
        assert_eq!(counted("jobs_finished_total", &labels), 1.0);
    }

    #[test]
    fn pods_and_indexes_count_by_what_the_status_says() {
        let before = || {
            let pods = |result| counted("job_pods_finished_total", &[("completion_mode", "Indexed"), ("result", result)]);
            [pods("succeeded"), pods("failed"), counted("job_finished_indexes_total", &[("status", "succeeded"), ("backoffLimit", "global")])]
        };
        let begun = before();
        wrote(&job("Indexed", json!({"completedIndexes": "0", "failed": 1})), &status(json!({"completedIndexes": "0-2", "failed": 4})));
        let grew: Vec<_> = before().iter().zip(begun).map(|(after, before)| after - before).collect();
        assert!(grew[0] >= 2.0 && grew[1] >= 3.0 && grew[2] >= 2.0, "{grew:?}");
    }

    #[test]
    fn failures_count_by_the_rule_that_matched() {
        let mut job = job("NonIndexed", json!({}));
        let rules = json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]);
        job.spec.as_mut().expect("set").pod_failure_policy = serde_json::from_value(json!({"rules": rules})).expect("a policy");
        let pod = |code: i32| -> Arc<JobPod> {
            let container = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}});
            let pod = json!({"metadata": {"name": "a"}, "status": {"phase": "Failed", "containerStatuses": [container]}});
            digest_of(&serde_json::from_value::<Pod>(pod).expect("a pod"))
        };
        let count = || counted("pod_failures_handled_by_failure_policy_total", &[("action", "FailIndex")]);
        let begun = count();
        released(&job, &pod(1));
        assert_eq!(applied_action(&job, &pod(1)), None);
        released(&job, &pod(42));
        assert!(count() > begun);
    }
}

//! Whether a job is done: what was decided before, then failures, then success. Pure.

use std::time::Duration;

use super::{
    failure_policy::{Meaning, judge},
    success_policy,
    template::{has_backoff_per_index, is_indexed},
    view::{View, has_failed},
};
/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub success: bool,
    pub reason: String,
    pub message: String,
    /// The status says so already.
    pub known: bool,
}

impl Verdict {
    fn failure(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Verdict { success: false, reason: reason.into(), message: message.into(), known: false })
    }

    /// Enough pods have succeeded.
    pub fn completed() -> Self {
        let message = "Reached expected number of succeeded pods".into();
        Verdict { success: true, reason: "CompletionsReached".into(), message, known: false }
    }
}

/// How many pods succeeded and failed, uncounted ones included.
pub struct Totals {
    pub succeeded: i32,
    pub failed: i32,
}

/// Counts.
pub fn totals(view: &View<'_>) -> Totals {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let uncounted = view.status.uncounted_terminated_pods.clone().unwrap_or_default();
    let failures = view.newly_failed.iter().filter(|pod| judge(view.job, pod) != Meaning::Ignored).count();
    let failed = view.status.failed.unwrap_or(0).saturating_add(count(failures)).saturating_add(count(uncounted.failed.map_or(0, |uids| uids.len())));
    if is_indexed(view.job) {
        return Totals { succeeded: view.succeeded_indexes.len(), failed };
    }
    let waiting = count(uncounted.succeeded.map_or(0, |uids| uids.len()));
    let succeeded = view.status.succeeded.unwrap_or(0).saturating_add(count(view.newly_succeeded.len())).saturating_add(waiting);
    Totals { succeeded, failed }
}

/// The verdict, if there is one before pods are made or taken away.
pub fn verdict(view: &View<'_>, totals: &Totals) -> Option<Verdict> {
    known(view)
        .or_else(|| by_failure_policy(view))
        .or_else(|| by_limits(view, totals))
        .or_else(|| by_indexes(view))
        .or_else(|| by_success_policy(view))
}

fn known(view: &View<'_>) -> Option<Verdict> {
    let find = |kind: &str| view.status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True");
    let condition = find("SuccessCriteriaMet").or_else(|| find("FailureTarget"))?;
    Some(Verdict {
        success: condition.type_ == "SuccessCriteriaMet",
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        known: true,
    })
}

fn by_failure_policy(view: &View<'_>) -> Option<Verdict> {
    view.spec.pod_failure_policy.as_ref()?;
    let mut failed = view.pods.iter().filter(|pod| has_failed(view.job, pod));
    let message = failed.find_map(|pod| if let Meaning::FailsJob(message) = judge(view.job, pod) { Some(message) } else { None })?;
    Verdict::failure("PodFailurePolicy", message)
}

fn by_limits(view: &View<'_>, totals: &Totals) -> Option<Verdict> {
    let limit = view.spec.backoff_limit.unwrap_or(6);
    if totals.failed > limit || restarted_too_often(view, limit) {
        return Verdict::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if time_left(view).is_some_and(|left| left.is_zero()) {
        return Verdict::failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    None
}

/// With `restartPolicy: OnFailure` the restarts of containers count.
fn restarted_too_often(view: &View<'_>, limit: i32) -> bool {
    if view.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let running = view.pods.iter().filter(|pod| matches!(pod.standing.phase, "Running" | "Pending"));
    let total = running.fold(0, |total: i32, pod| total.saturating_add(pod.restarts));
    if limit == 0 { total > 0 } else { total >= limit }
}

/// What is left of `activeDeadlineSeconds` while the job is not suspended.
pub fn time_left(view: &View<'_>) -> Option<Duration> {
    let seconds = view.spec.active_deadline_seconds.filter(|_| !view.is_suspended())?;
    let started = view.status.start_time.as_ref()?.0;
    let passed: Duration = view.now.duration_since(started).try_into().unwrap_or_default();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).saturating_sub(passed))
}

fn by_indexes(view: &View<'_>) -> Option<Verdict> {
    let failed = view.failed_indexes.as_ref().filter(|_| has_backoff_per_index(view.job))?;
    if view.spec.max_failed_indexes.is_some_and(|most| failed.len() > most) {
        return Verdict::failure("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
    }
    if !failed.is_empty() && failed.len().saturating_add(view.succeeded_indexes.len()) >= view.completions() {
        return Verdict::failure("FailedIndexes", "Job has failed indexes");
    }
    None
}

fn by_success_policy(view: &View<'_>) -> Option<Verdict> {
    let message = success_policy::met(view.job, view.completions(), &view.succeeded_indexes).filter(|_| is_indexed(view.job))?;
    Some(Verdict { success: true, reason: "SuccessPolicy".into(), message, known: false })
}

//! What a job needs: pods to make and take away, finalizers to take off, and its status. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{Job, JobStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use troupe_api::meta::LabelSelector;

use super::{
    backoff::Backoff,
    manage::{self, Steps},
    pod::JobPod,
    template::{NewPod, has_backoff_per_index},
    tracking::{self, set_condition, some},
    verdict::{self, Verdict},
    view::View,
};
use crate::controllers::owners::{self, Named};

/// One step. Steps are applied in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    AdoptPod {
        pod: String,
        uid: String,
    },
    ReleasePod {
        pod: String,
        uid: String,
    },
    /// Takes a pod away; one that is `tracked` keeps its finalizer until it is counted.
    DeletePod {
        pod: String,
        uid: String,
        tracked: bool,
    },
    CreatePods(Vec<NewPod>),
    UpdateStatus(Box<JobStatus>),
    /// Remembers the failures that the status now counts.
    NoteFailures(Backoff),
    RemoveFinalizer {
        pod: String,
        uid: String,
    },
    Announce {
        warning: bool,
        reason: String,
        message: String,
    },
}

/// What a plan is made from. Pods are those that the job owns or could own.
pub struct Snapshot<'a> {
    pub job: &'a Job,
    pub pods: &'a [Arc<JobPod>],
    pub backoff: &'a Backoff,
}

/// What to do now, and when to look again although nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub again_after: Option<Duration>,
    /// Pods are missing that are not made yet, because too many of those there are wait to run.
    pub held_back: bool,
}

/// Plans for a job that is not finished.
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let job = snapshot.job;
    let Some(spec) = job.spec.as_ref().filter(|_| !super::is_finished(job)) else { return Plan::default() };
    let mut actions = Vec::new();
    let pods = claimed(job, snapshot.pods, &mut actions);
    let view = View::new(job, spec, pods, now);
    let totals = verdict::totals(&view);
    let backoff = snapshot.backoff.after(&view.newly_succeeded, &view.newly_failed);
    let mut verdict = verdict::verdict(&view, &totals);
    let failed_or_done = verdict.is_some();
    let steps = match &verdict {
        Some(_) => Steps { delete: view.active.clone(), ..Steps::default() },
        None if view.is_deleted() => Steps::default(),
        None => manage::steps(&view, totals.succeeded, &backoff),
    };
    let active = view.active.len() + steps.create.len() - steps.delete.len();
    if verdict.is_none() && active == 0 && !view.frees_pods() && is_complete(&view, totals.succeeded) {
        verdict = Some(Verdict::completed());
    }
    let mut after = Vec::new();
    let mut status = numbers(&view, &steps, active);
    if verdict.is_none() && !view.is_deleted() {
        suspend_or_resume(&view, &mut status, &mut after);
    }
    let counted = tracking::count(&view, status, verdict.as_ref());
    let mut status = counted.status;
    if let Some(verdict) = &verdict {
        conclude(&view, &mut status, verdict, counted.complete, &mut after);
    }
    let held_back = steps.held_back;
    let again_after = steps.wait.into_iter().chain(verdict::time_left(&view).filter(|_| !failed_or_done)).min();
    push(steps, failed_or_done, &mut actions);
    if !same(view.job.status.as_ref(), &status) {
        actions.push(Action::UpdateStatus(Box::new(status)));
    }
    // Each index waits for itself: its last failed pod, kept back, says how often it failed.
    if backoff != *snapshot.backoff && !has_backoff_per_index(job) {
        actions.push(Action::NoteFailures(backoff));
    }
    let released = counted.release.into_iter().map(|pod| Named::by_meta(&pod.meta));
    actions.extend(released.map(|Named { name, uid }| Action::RemoveFinalizer { pod: name, uid }));
    actions.extend(after);
    Plan { actions, again_after, held_back }
}

fn claimed<'a>(job: &Job, pods: &'a [Arc<JobPod>], actions: &mut Vec<Action>) -> Vec<&'a Arc<JobPod>> {
    let Some(selector) = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(LabelSelector::from) else { return Vec::new() };
    let claimed = owners::claimed_by_meta(&job.metadata, pods, |pod| &pod.meta, |meta| selector.matches_projection(&meta.labels));
    // One that has ended already is counted when it is seen with its finalizer.
    actions.extend(claimed.adopted.into_iter().map(|Named { name, uid }| Action::AdoptPod { pod: name, uid }));
    if job.metadata.deletion_timestamp.is_none() {
        actions.extend(claimed.released.into_iter().map(|Named { name, uid }| Action::ReleasePod { pod: name, uid }));
    }
    claimed.ours
}

fn is_complete(view: &View<'_>, succeeded: i32) -> bool {
    view.spec.completions.map_or(succeeded > 0, |completions| succeeded >= completions)
}

/// The status with the numbers that pods of this moment, and the steps planned, come to.
fn numbers(view: &View<'_>, steps: &Steps<'_>, active: usize) -> JobStatus {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let mut status = view.status.clone();
    if status.start_time.is_none() && !view.is_suspended() {
        status.start_time = Some(Time(view.now));
    }
    let ready = |pods: &[&Arc<JobPod>]| pods.iter().filter(|pod| pod.standing.is_ready).count();
    status.active = some(count(active));
    status.ready = Some(count(ready(&view.active) - ready(&steps.delete)));
    status.terminating = Some(count(view.pods.iter().filter(|pod| pod.standing.is_terminating()).count() + steps.delete.len()));
    status
}

fn suspend_or_resume(view: &View<'_>, status: &mut JobStatus, after: &mut Vec<Action>) {
    let now = Time(view.now);
    let announce = |reason: &str, message: &str| Action::Announce { warning: false, reason: reason.into(), message: message.into() };
    if view.is_suspended() {
        if set_condition(status, "Suspended", true, "JobSuspended", "Job suspended", now) {
            status.start_time = None;
            after.push(announce("Suspended", "Job suspended"));
        }
    } else if set_condition(status, "Suspended", false, "JobResumed", "Job resumed", now.clone()) {
        // The deadline counts from here.
        status.start_time = Some(now);
        after.push(announce("Resumed", "Job resumed"));
    }
    status.conditions = status.conditions.take().filter(|conditions| !conditions.is_empty());
}

/// Says first that the job will end, and that it has ended when its pods are gone and counted.
fn conclude(view: &View<'_>, status: &mut JobStatus, verdict: &Verdict, counted: bool, after: &mut Vec<Action>) {
    let now = Time(view.now);
    let Verdict { reason, message, .. } = verdict;
    let (interim, last) = if verdict.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
    if !verdict.known {
        set_condition(status, interim, true, reason, message, now.clone());
    }
    if !counted || status.terminating.unwrap_or(0) > 0 || status.active.unwrap_or(0) > 0 {
        return;
    }
    set_condition(status, last, true, reason, message, now.clone());
    if !verdict.success {
        after.push(Action::Announce { warning: true, reason: reason.clone(), message: message.clone() });
        return;
    }
    status.completion_time = Some(now);
    if view.spec.completions.is_some_and(|completions| status.succeeded.unwrap_or(0) > completions) {
        let message = "Too many succeeded pods running after completion count reached".into();
        after.push(Action::Announce { warning: true, reason: "TooManySucceededPods".into(), message });
    }
    after.push(Action::Announce { warning: false, reason: "Completed".into(), message: "Job completed".into() });
}

fn push(steps: Steps<'_>, tracked: bool, actions: &mut Vec<Action>) {
    let deleted = steps.delete.into_iter().map(|pod| Named::by_meta(&pod.meta));
    actions.extend(deleted.map(|Named { name, uid }| Action::DeletePod { pod: name, uid, tracked }));
    if !steps.create.is_empty() {
        actions.push(Action::CreatePods(steps.create));
    }
}

/// Empty lists say no more than lists that are not there.
fn same(before: Option<&JobStatus>, after: &JobStatus) -> bool {
    let plain = |status: &JobStatus| {
        let mut status = status.clone();
        status.uncounted_terminated_pods = status.uncounted_terminated_pods.filter(|pods| *pods != Default::default());
        status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
        status
    };
    before.is_some_and(|before| plain(before) == plain(after))
}

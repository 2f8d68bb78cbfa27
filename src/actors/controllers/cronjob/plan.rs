//! What a cron job needs: a job to start, old ones to delete, and its status. Pure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{CronJob, CronJobStatus, Job},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::timing::{Timing, UNKNOWN_TIME_ZONE, Unusable};
use crate::{
    controllers::{job::is_finished, owners::controller_reference},
    runtime::controller::ReconcileContext,
};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// What upstream's warning of zones in schedules names.
const DOCUMENTATION: &str = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/";

/// One step. Steps are applied in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    DeleteJob {
        job: String,
        uid: String,
    },
    /// Makes a job; the status that follows gets it as active, and its time.
    Start {
        job: Box<Job>,
        scheduled: Time,
    },
    UpdateStatus(Box<CronJobStatus>),
    Announce {
        warning: bool,
        reason: &'static str,
        message: String,
    },
}

/// What to do now, and when to look again although nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub again_after: Option<Duration>,
}

/// Plans for a cron job with the jobs it controls.
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut status = cron.status.clone().unwrap_or_default();
    learn(jobs, &mut status);
    clean_up(cron, jobs, &mut status, &mut plan.actions);
    look_after(jobs, &mut status, &mut plan.actions);
    if cron.metadata.deletion_timestamp.is_none() {
        run(cron, jobs, now, &mut status, &mut plan);
    }
    status.active = status.active.filter(|active| !active.is_empty());
    let starts = plan.actions.iter().any(|action| matches!(action, Action::Start { .. }));
    if starts || status != plain(cron.status.as_ref()) {
        plan.actions.push(Action::UpdateStatus(Box::new(status)));
    }
    plan
}

/// An empty list says no more than one that is not there.
fn plain(status: Option<&CronJobStatus>) -> CronJobStatus {
    let mut status = status.cloned().unwrap_or_default();
    status.active = status.active.filter(|active| !active.is_empty());
    status
}

fn announce(warning: bool, reason: &'static str, message: impl Into<String>) -> Action {
    Action::Announce { warning, reason, message: message.into() }
}

fn has_condition(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn forget(status: &mut CronJobStatus, uid: Option<&String>) {
    if let Some(active) = &mut status.active {
        active.retain(|reference| reference.uid.as_ref() != uid);
    }
}

/// Tells of jobs that were made while the status could not be written.
fn learn(jobs: &[Arc<Job>], status: &mut CronJobStatus) {
    let told = status.last_schedule_time.as_ref().map(|time| time.0);
    for job in jobs.iter().filter(|job| is_untold(job, told)) {
        let is_listed = status.active.iter().flatten().any(|reference| reference.uid == job.metadata.uid);
        if !is_listed && !is_finished(job) && job.metadata.deletion_timestamp.is_none() {
            status.active.get_or_insert_default().push(ReconcileContext::reference(&**job));
        }
        status.last_schedule_time = status.last_schedule_time.take().map(|time| time.0).max(scheduled_for(job)).map(Time);
    }
}

/// Deletes the oldest finished jobs beyond the limits.
fn clean_up(cron: &CronJob, jobs: &[Arc<Job>], status: &mut CronJobStatus, actions: &mut Vec<Action>) {
    let spec = &cron.spec;
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref()).map(|time| time.0);
    for (kind, limit) in [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)] {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let mut ended: Vec<_> = jobs.iter().filter(|job| has_condition(job, kind)).collect();
        // Those that never started count as the youngest.
        let started = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        ended.sort_by_key(|job| (started(job).is_none(), started(job), job.metadata.name.clone()));
        let surplus = ended.len().saturating_sub(limit);
        for job in ended.into_iter().take(surplus).filter(|job| job.metadata.deletion_timestamp.is_none() && !is_untold(job, last)) {
            actions.push(delete(&job.metadata));
            forget(status, job.metadata.uid.as_ref());
        }
    }
}

/// The time that a job was made for; none where somebody made it by hand.
fn scheduled_for(job: &Job) -> Option<Timestamp> {
    job.metadata.annotations.as_ref()?.get(SCHEDULED)?.parse().ok()
}

/// Whether a job was made for a time after the last one that the status tells of: were it deleted, its time would be run again.
fn is_untold(job: &Job, last: Option<Timestamp>) -> bool {
    scheduled_for(job).is_some_and(|scheduled| last.is_none_or(|last| last < scheduled))
}

fn delete(meta: &ObjectMeta) -> Action {
    Action::DeleteJob { job: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone().unwrap_or_default() }
}

/// Brings the list of active jobs up to date.
fn look_after(jobs: &[Arc<Job>], status: &mut CronJobStatus, actions: &mut Vec<Action>) {
    for job in jobs {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let listed = status.active.iter().flatten().any(|reference| reference.uid == job.metadata.uid);
        if !is_finished(job) {
            if !listed {
                actions.push(announce(true, "UnexpectedJob", format!("Saw a job that the controller did not create or forgot: {name}")));
            }
            continue;
        }
        if listed {
            let condition = if has_condition(job, "Complete") { "Complete" } else { "Failed" };
            forget(status, job.metadata.uid.as_ref());
            actions.push(announce(false, "SawCompletedJob", format!("Saw completed job: {name}, condition: {condition}")));
        }
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone()).filter(|_| has_condition(job, "Complete"));
        if completed > status.last_successful_time {
            status.last_successful_time = completed;
        }
    }
    let known: BTreeSet<_> = jobs.iter().map(|job| &job.metadata.uid).collect();
    let missing: Vec<_> = status.active.iter().flatten().filter(|reference| !known.contains(&reference.uid)).cloned().collect();
    for reference in missing {
        actions.push(announce(false, "MissingJob", format!("Active job went missing: {}", reference.name.as_deref().unwrap_or_default())));
        forget(status, reference.uid.as_ref());
    }
}

/// Starts what is due.
fn run(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp, status: &mut CronJobStatus, plan: &mut Plan) {
    let spec = &cron.spec;
    let timing = Timing::of(cron);
    if spec.suspend == Some(true) {
        // Of a zone that nobody knows upstream tells all the same.
        if let Err(Unusable { reason: UNKNOWN_TIME_ZONE, message }) = timing {
            plan.actions.push(announce(true, UNKNOWN_TIME_ZONE, message));
        }
        return;
    }
    if spec.schedule.contains("TZ") {
        let message = format!("CRON_TZ or TZ used in schedule {:?} is not officially supported, see {DOCUMENTATION} for more details", spec.schedule);
        plan.actions.push(announce(true, "UnsupportedSchedule", message));
    }
    let due = timing.and_then(|timing| Ok((timing.due(cron, now, true)?, timing)));
    let (due, timing) = match due {
        Ok(due) => due,
        Err(Unusable { reason, message }) => return plan.actions.push(announce(true, reason, message)),
    };
    plan.again_after = timing.until_next(cron, now);
    let Some(scheduled) = due.last else { return };
    if due.missed_many() {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.actions.push(announce(true, "TooManyMissedTimes", message));
    }
    let late = i128::from(now.duration_since(scheduled).as_secs());
    if spec.starting_deadline_seconds.is_some_and(|most| late > i128::from(most)) {
        let text = scheduled.strftime("%a, %d %b %Y %H:%M:%S +0000");
        return plan.actions.push(announce(true, "MissSchedule", format!("Missed scheduled time to start a job: {text}")));
    }
    let name = job_name(cron, scheduled);
    let active = status.active.clone().unwrap_or_default();
    let done = status.last_schedule_time.as_ref().is_some_and(|last| last.0 >= scheduled);
    if done || active.iter().any(|reference| reference.name.as_ref() == Some(&name)) {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.actions.push(announce(false, "JobAlreadyActive", message));
        }
        Some("Replace") => {
            let running = jobs.iter().filter(|job| active.iter().any(|reference| reference.uid == job.metadata.uid));
            plan.actions.extend(running.map(|job| delete(&job.metadata)));
            status.active = None;
        }
        _ => {}
    }
    let job = new_job(cron, name, timing.text(cron, scheduled));
    plan.actions.push(Action::Start { job: Box::new(job), scheduled: Time(scheduled) });
}

/// The same for the same time, so that no time has two jobs.
fn job_name(cron: &CronJob, scheduled: Timestamp) -> String {
    format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), scheduled.as_second().div_euclid(60))
}

fn new_job(cron: &CronJob, name: String, scheduled: String) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.into(), scheduled);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Action, Plan, plan};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A cron job made at noon.
fn cron(more: Value) -> CronJob {
    let template = json!({"metadata": {"labels": {"of": "tick"}}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": []}}}});
    let mut spec = json!({
        "schedule": "*/10 * * * *", "timeZone": "Etc/UTC", "concurrencyPolicy": "Allow", "suspend": false, "jobTemplate": template,
        "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
    });
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    let metadata = json!({"name": "tick", "namespace": "n", "uid": "c", "creationTimestamp": "2030-01-01T12:00:00Z"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a cron job")
}

/// A cluster in which every planned action takes effect.
struct World {
    cron: CronJob,
    jobs: Vec<Job>,
    events: Vec<&'static str>,
}

impl World {
    fn new(more: Value) -> Self {
        World { cron: cron(more), jobs: Vec::new(), events: Vec::new() }
    }

    fn plan(&self, now: Timestamp) -> Plan {
        let jobs: Vec<_> = self.jobs.iter().cloned().map(Arc::new).collect();
        plan(&self.cron, &jobs, now)
    }

    fn step(&mut self, now: Timestamp) -> Option<Duration> {
        let Plan { actions, again_after } = self.plan(now);
        let mut started = None;
        for action in actions {
            match action {
                Action::DeleteJob { uid, .. } => self.jobs.retain(|job| job.metadata.uid.as_ref() != Some(&uid)),
                Action::Start { job, scheduled } => {
                    let mut job = *job;
                    assert!(self.jobs.iter().all(|other| other.metadata.name != job.metadata.name), "started twice");
                    job.metadata.uid = job.metadata.name.clone();
                    job.status.get_or_insert_default().start_time = Some(Time(now));
                    let reference = ObjectReference { name: job.metadata.name.clone(), uid: job.metadata.uid.clone(), ..ObjectReference::default() };
                    started = Some((reference, scheduled));
                    self.jobs.push(job);
                }
                Action::UpdateStatus(mut status) => {
                    if let Some((reference, scheduled)) = started.take() {
                        status.active.get_or_insert_default().push(reference);
                        status.last_schedule_time = Some(scheduled);
                    }
                    self.cron.status = Some(*status);
                }
                Action::Announce { reason, .. } => self.events.push(reason),
            }
        }
        again_after
    }

    fn names(&self) -> Vec<&str> {
        self.jobs.iter().filter_map(|job| job.metadata.name.as_deref()).collect()
    }

    fn finish(&mut self, at: usize, condition: &str, now: Timestamp) {
        let time = now.to_string();
        let completed = (condition == "Complete").then_some(time.clone());
        let status = json!({"startTime": time, "completionTime": completed, "conditions": [{"type": condition, "status": "True"}]});
        self.jobs[at].status = Some(serde_json::from_value(status).expect("a status"));
    }
}

#[test]
fn a_job_starts_when_it_is_due_and_only_once() {
    let mut world = World::new(json!({}));
    assert_eq!(world.step(at("2030-01-01T12:03:00Z")), Some(Duration::from_millis(420_100)));
    assert_eq!(world.names(), Vec::<&str>::new());
    let due = at("2030-01-01T12:10:00Z");
    world.step(due);
    let job = &world.jobs[0];
    assert_eq!(job.metadata.name.as_deref(), Some("tick-31558330"));
    let annotations = job.metadata.annotations.clone().expect("annotations");
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2030-01-01T12:10:00Z");
    assert_eq!(job.metadata.labels.as_ref().map(|labels| labels["of"].as_str()), Some("tick"));
    assert_eq!(world.step(due), Some(Duration::from_millis(600_100)));
    assert_eq!(world.names().len(), 1);
    assert_eq!(world.cron.status.clone().expect("a status").last_schedule_time, Some(Time(due)));
}

#[test]
fn of_many_missed_times_the_last_one_is_made_up_for() {
    let mut world = World::new(json!({"schedule": "* * * * *"}));
    world.step(at("2030-01-03T12:00:30Z"));
    assert_eq!(world.cron.status.clone().expect("a status").last_schedule_time, Some(Time(at("2030-01-03T12:00:00Z"))));
    assert_eq!((world.names().len(), world.events.as_slice()), (1, &["TooManyMissedTimes"][..]));
}

#[test]
fn what_is_too_late_is_not_started() {
    let mut world = World::new(json!({"startingDeadlineSeconds": 30}));
    world.step(at("2030-01-01T12:10:45Z"));
    assert_eq!(world.names(), Vec::<&str>::new());
    world.step(at("2030-01-01T12:20:20Z"));
    assert_eq!(world.names().len(), 1);
}

#[test]
fn the_policy_says_what_becomes_of_jobs_that_still_run() {
    for (policy, running) in
        [("Allow", vec!["tick-31558330", "tick-31558340"]), ("Forbid", vec!["tick-31558330"]), ("Replace", vec!["tick-31558340"])]
    {
        let mut world = World::new(json!({"concurrencyPolicy": policy}));
        world.step(at("2030-01-01T12:10:00Z"));
        world.step(at("2030-01-01T12:20:00Z"));
        assert_eq!(world.names(), running, "{policy}");
        let active = world.cron.status.clone().and_then(|status| status.active).expect("some");
        assert_eq!(active.len(), running.len(), "{policy}");
    }
}

#[test]
fn zones_in_schedules_are_told_of_and_one_that_nobody_knows_is_no_schedule() {
    let noon = at("2030-01-01T12:00:00Z");
    let told = |more: Value| -> Vec<(&'static str, String)> {
        let actions = World::new(more).plan(noon).actions;
        let told = actions.into_iter().filter_map(|action| match action {
            Action::Announce { warning: true, reason, message } => Some((reason, message)),
            _ => None,
        });
        told.collect()
    };
    let named = told(json!({"schedule": "CRON_TZ=Asia/Tokyo 0 9 * * *", "timeZone": null}));
    assert_eq!(named.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), ["UnsupportedSchedule"]);
    assert!(
        named[0].1.starts_with("CRON_TZ or TZ used in schedule \"CRON_TZ=Asia/Tokyo 0 9 * * *\" is not officially supported, see https://"),
        "{named:?}"
    );
    let unknown = told(json!({"schedule": "TZ=Nowhere/Land 0 9 * * *", "timeZone": null}));
    assert_eq!(unknown.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), ["UnsupportedSchedule", "UnparseableSchedule"]);
    assert!(unknown[1].1.ends_with(": provided bad location Nowhere/Land: unknown time zone Nowhere/Land"), "{unknown:?}");
    let suspended = told(json!({"suspend": true, "timeZone": "Nowhere/Land"}));
    assert_eq!(suspended, [("UnknownTimeZone", "invalid timeZone: \"Nowhere/Land\": unknown time zone Nowhere/Land".to_owned())]);
    assert!(told(json!({"suspend": true, "schedule": "TZ=Asia/Tokyo 0 9 * * *", "timeZone": null})).is_empty());
}

#[test]
fn a_suspended_cron_job_starts_nothing() {
    let mut world = World::new(json!({"suspend": true}));
    assert_eq!(world.step(at("2030-01-01T13:00:00Z")), None);
    assert_eq!(world.names(), Vec::<&str>::new());
}

#[test]
fn finished_jobs_leave_the_list_and_only_so_many_are_kept() {
    let mut world = World::new(json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}));
    for (minute, condition) in [(10, "Complete"), (20, "Complete"), (30, "Failed")] {
        let now = at("2030-01-01T12:00:00Z") + SignedDuration::from_mins(minute);
        world.step(now);
        let last = world.jobs.len() - 1;
        world.finish(last, condition, now + SignedDuration::from_secs(5));
        world.step(now + SignedDuration::from_secs(5));
    }
    assert_eq!(world.names(), ["tick-31558340"]);
    let status = world.cron.status.clone().expect("a status");
    assert_eq!(status.active, None);
    assert_eq!(status.last_successful_time, Some(Time(at("2030-01-01T12:20:05Z"))));
    assert_eq!(world.events, ["SawCompletedJob", "SawCompletedJob"], "the failed one was deleted before");
}

#[test]
fn a_job_that_went_missing_is_forgotten() {
    let mut world = World::new(json!({"concurrencyPolicy": "Forbid"}));
    world.step(at("2030-01-01T12:10:00Z"));
    world.jobs.clear();
    world.step(at("2030-01-01T12:20:00Z"));
    assert_eq!((world.names().len(), world.events.as_slice()), (1, &["MissingJob"][..]));
}

#[test]
fn a_job_that_did_not_reach_the_status_keeps_others_out_and_is_not_run_again() {
    let mut world = World::new(json!({"concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 0}));
    world.step(at("2030-01-01T12:10:00Z"));
    world.cron.status = None;
    let starts = |plan: Plan| plan.actions.into_iter().any(|action| matches!(action, Action::Start { .. }));
    assert!(!starts(world.plan(at("2030-01-01T12:20:00Z"))), "the first one runs");
    world.finish(0, "Complete", at("2030-01-01T12:10:30Z"));
    let is_deletion = |action: &Action| matches!(action, Action::DeleteJob { .. });
    assert!(!world.plan(at("2030-01-01T12:11:00Z")).actions.iter().any(is_deletion), "nothing else tells that it ran");
    world.step(at("2030-01-01T12:11:00Z"));
    let status = world.cron.status.clone().expect("a status");
    assert_eq!((status.last_schedule_time, status.active), (Some(Time(at("2030-01-01T12:10:00Z"))), None), "it is found, and told of");
    world.step(at("2030-01-01T12:11:00Z"));
    assert!(world.names().is_empty(), "so it may go");
    assert!(!starts(world.plan(at("2030-01-01T12:12:00Z"))), "and is not run again");
}

#[test]
fn jobs_that_did_not_reach_the_status_are_told_of_and_replaced() {
    let mut world = World::new(json!({"concurrencyPolicy": "Replace"}));
    world.step(at("2030-01-01T12:10:00Z"));
    world.cron.status = None;
    world.step(at("2030-01-01T12:11:00Z"));
    let active: Vec<_> = world.cron.status.iter().flat_map(|status| status.active.iter().flatten()).collect();
    assert_eq!(active.iter().filter_map(|job| job.uid.as_deref()).collect::<Vec<_>>(), world.names());
    world.cron.status = None;
    let before = world.names().join(" ");
    world.step(at("2030-01-01T12:20:00Z"));
    assert!(world.names().len() == 1 && !before.contains(world.names()[0]), "the one that still ran has gone");
}

#[test]
fn times_are_those_of_the_zone() {
    let mut world = World::new(json!({"schedule": "0 9 * * *", "timeZone": "Asia/Tokyo"}));
    world.step(at("2030-01-02T00:00:00Z"));
    let annotations = world.jobs[0].metadata.annotations.clone().expect("annotations");
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2030-01-02T09:00:00+09:00");
}

#[test]
fn what_cannot_run_says_so() {
    for (more, reason) in [
        (json!({"schedule": "x"}), "UnparseableSchedule"),
        (json!({"schedule": "0 0 31 2 *"}), "InvalidSchedule"),
        (json!({"timeZone": "Nowhere/Land"}), "UnknownTimeZone"),
    ] {
        let mut world = World::new(more);
        assert_eq!(world.step(at("2030-01-01T13:00:00Z")), None);
        assert_eq!(world.events, [reason]);
    }
}

proptest! {
    /// Applying a plan leaves nothing to do until time passes or a job ends.
    #[test]
    fn one_plan_is_enough(policy in prop::sample::select(vec!["Allow", "Replace"]), steps in prop::collection::vec((1_i64..90, any::<bool>()), 1..12)) {
        let mut world = World::new(json!({"concurrencyPolicy": policy}));
        let mut now = at("2030-01-01T12:00:00Z");
        for (minutes, ends) in steps {
            now += SignedDuration::from_mins(minutes);
            world.step(now);
            prop_assert_eq!(world.plan(now).actions, vec![]);
            if ends && !world.jobs.is_empty() {
                let last = world.jobs.len() - 1;
                world.finish(last, "Complete", now);
                world.step(now);
                prop_assert_eq!(world.plan(now).actions, vec![]);
            }
        }
    }
}

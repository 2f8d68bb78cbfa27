//! Cron jobs under faults, with the jobs that they make: no time is run twice, and where the policy forbids it no two jobs run at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{
    Faults, simulate_with_clock,
    world::{World, ended, running, seeds, template},
};
use crate::controllers::{
    cronjob::CronJobController,
    job::{self, JobController, orphans::JobOrphanController},
    pods::{is_finished, is_ready},
};

/// How long faults go on, and how long the world then has to come to rest.
const FAULTY: Duration = Duration::from_secs(900);
const REST: Duration = Duration::from_secs(900);
/// The last run is no longer ago than this at rest: it is due every minute.
const RECENT: SignedDuration = SignedDuration::from_mins(5);

/// The jobs that there ever were, by name, those that run, and what must not be.
#[derive(Default)]
struct Jobs {
    made: BTreeMap<String, String>,
    running: BTreeSet<String>,
    most: usize,
    wrong: Vec<String>,
}

impl Jobs {
    fn note(&mut self, job: &Job, is_there: bool) {
        let (name, uid) = (job.metadata.name.clone().unwrap_or_default(), job.metadata.uid.clone().unwrap_or_default());
        let known = self.made.entry(name.clone()).or_insert_with(|| uid.clone());
        if *known != uid {
            self.wrong.push(format!("{name} was run twice"));
        }
        if is_there && !job::is_finished(job) {
            self.running.insert(uid);
        } else {
            self.running.remove(&uid);
        }
        self.most = self.most.max(self.running.len());
    }
}

/// A cron job is due every minute, and its jobs take a while each, some more than a minute.
fn run(seed: u64, policy: &'static str, kept: usize, faults: Faults) {
    simulate_with_clock(seed, |system, clock| async move {
        let world = World::new(system, clock, faults, seed).await;
        world.start(CronJobController::new);
        world.start(JobController::new);
        world.start(JobOrphanController::new);
        let spec = json!({
            "schedule": "* * * * *", "timeZone": "Etc/UTC", "concurrencyPolicy": policy, "successfulJobsHistoryLimit": kept,
            "jobTemplate": {"spec": {"template": template("a", "Never")}},
        });
        let jobs = world.note("jobs", Jobs::note);
        world
            .api
            .create(json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"}, "spec": spec}))
            .await;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut life = |pod: &Pod, now: &str| {
            if is_finished(pod) || pod.metadata.deletion_timestamp.is_some() {
                return None;
            }
            if !is_ready(pod) {
                return Some(running(now));
            }
            rng.random_bool(0.03).then(|| ended("Succeeded", 0, now))
        };
        world.in_trouble(world.play(FAULTY, &mut life)).await;
        world.play(REST, &mut life).await;
        // From here on none ends, so those that ended have been seen.
        world.play(REST, &mut |pod: &Pod, now: &str| (!is_finished(pod) && !is_ready(pod)).then(|| running(now))).await;
        assert_eq!(jobs.look().wrong, Vec::<String>::new(), "seed {seed}");
        assert!(jobs.look().made.len() > 3, "seed {seed}: {:?}", jobs.look().made.keys());
        if policy == "Forbid" {
            assert_eq!(jobs.look().most, 1, "seed {seed}: at once");
            let status = world.status("cronjobs.batch", "tick").await;
            let last: Timestamp = status["lastScheduleTime"].as_str().and_then(|time| time.parse().ok()).expect("it ran");
            let (ago, runs) = (world.system.clock().now().duration_since(last), jobs.look().running.len());
            assert!(runs > 0 || ago < RECENT, "seed {seed}: {status}");
        }
        let left = world.list::<Job>("default").await;
        let ended = left.iter().filter(|job| job::is_finished(job)).count();
        let status = world.status("cronjobs.batch", "tick").await;
        assert!(ended <= kept, "seed {seed}, {policy}: more than {kept} are left, {status}: {left:#?}");
    });
}

#[test]
fn no_time_of_a_cron_job_is_run_twice_and_forbidden_jobs_never_run_at_once() {
    let losing = Faults { lost_reply: 0.3, ..Faults::default() };
    for seed in seeds() {
        run(seed, "Forbid", 0, losing);
        run(seed, "Forbid", 1, Faults::default());
        run(seed, "Allow", 0, losing);
        run(seed, "Replace", 1, Faults::default());
    }
}

mod indexed;
mod policies;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    FINALIZER,
    backoff::Backoff,
    is_finished,
    orphans::is_orphan,
    plan::{Action, Plan, Snapshot, plan},
    pod::{JobPod, index_of},
};
use crate::{controllers::owners::controller_reference, runtime::cache::digest_of};

fn job(spec: Value) -> Job {
    let template = json!({"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a"}]}});
    let mut all = json!({
        "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
        "selector": {"matchLabels": {"job": "j"}}, "template": template, "podReplacementPolicy": "TerminatingOrFailed",
    });
    for (key, value) in spec.as_object().expect("an object") {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "work", "namespace": "n", "uid": "j", "generation": 1}, "spec": all})).expect("a job")
}

fn indexed(completions: i32, more: Value) -> Job {
    let mut spec = json!({"completionMode": "Indexed", "completions": completions, "parallelism": completions});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    job(spec)
}

/// A cluster in which every planned action takes effect, and pods end when told to.
struct World {
    job: Job,
    pods: Vec<Pod>,
    backoff: Backoff,
    now: Timestamp,
    made: usize,
    events: Vec<String>,
}

impl World {
    fn new(job: Job) -> Self {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        World { job, pods: Vec::new(), backoff: Backoff::default(), now, made: 0, events: Vec::new() }
    }

    fn plan(&self) -> Plan {
        let pods: Vec<Arc<JobPod>> = self.pods.iter().map(digest_of).collect();
        plan(&Snapshot { job: &self.job, pods: &pods, backoff: &self.backoff }, self.now)
    }

    fn pod(&mut self, name: &str) -> &mut Pod {
        self.pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some(name)).expect("there")
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::CreatePods(pods) => pods.into_iter().for_each(|pod| self.make(pod.make(&self.job))),
            Action::DeletePod { pod, tracked, .. } => {
                let now = Some(Time(self.now));
                let pod = self.pod(&pod);
                pod.metadata.deletion_timestamp = now;
                if !tracked {
                    pod.metadata.finalizers = None;
                }
            }
            Action::AdoptPod { pod, .. } => {
                let owner = controller_reference(&self.job);
                let pod = self.pod(&pod);
                (pod.metadata.owner_references, pod.metadata.finalizers) = (Some(vec![owner]), Some(vec![FINALIZER.into()]));
            }
            Action::ReleasePod { pod, .. } => {
                let pod = self.pod(&pod);
                (pod.metadata.owner_references, pod.metadata.finalizers) = (None, None);
            }
            Action::RemoveFinalizer { pod, .. } => self.pod(&pod).metadata.finalizers = None,
            Action::UpdateStatus(status) => self.job.status = Some(*status),
            Action::NoteFailures(backoff) => self.backoff = backoff,
            Action::Announce { reason, message, .. } => self.events.push(format!("{reason}: {message}")),
        }
    }

    fn make(&mut self, mut pod: Pod) {
        self.made += 1;
        let name = format!("p{}", self.made);
        (pod.metadata.name, pod.metadata.uid) = (Some(name.clone()), Some(name));
        pod.metadata.creation_timestamp = Some(Time(self.now));
        pod.status.get_or_insert_default().phase = Some("Running".into());
        self.pods.push(pod);
    }

    fn step(&mut self) -> bool {
        let actions = self.plan().actions;
        let idle = actions.is_empty();
        for action in actions {
            self.apply(action);
        }
        // Kubelets end what is deleted; it is gone when nobody holds it.
        let now = self.now;
        for pod in self.pods.iter_mut().filter(|pod| pod.metadata.deletion_timestamp.is_some() && phase(pod) == "Running") {
            end(pod, "Failed", 137, now);
        }
        self.pods.retain(|pod| pod.metadata.deletion_timestamp.is_none() || pod.metadata.finalizers.is_some());
        !idle
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if !self.step() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn end(&mut self, name: &str, phase: &str, code: i32) {
        let now = self.now;
        end(self.pod(name), phase, code, now);
    }

    fn running(&self) -> Vec<&str> {
        let running = self.pods.iter().filter(|pod| phase(pod) == "Running" && pod.metadata.deletion_timestamp.is_none());
        running.filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    fn running_indexes(&self) -> Vec<i32> {
        let mut indexes: Vec<_> = self.pods.iter().filter(|pod| phase(pod) == "Running").filter_map(index_of).collect();
        indexes.sort_unstable();
        indexes
    }

    fn of_index(&self, index: i32) -> String {
        let mut running = self.pods.iter().filter(|pod| phase(pod) == "Running");
        running.find(|pod| index_of(pod) == Some(index)).and_then(|pod| pod.metadata.name.clone()).expect("it runs")
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn conditions(&self) -> Vec<(String, String)> {
        let conditions = self.job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let on = conditions.filter(|condition| condition.status == "True");
        on.map(|condition| (condition.type_.clone(), condition.reason.clone().unwrap_or_default())).collect()
    }

    fn counts(&self) -> (i32, i32, i32) {
        let status = self.job.status.clone().unwrap_or_default();
        (status.active.unwrap_or(0), status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
    }
}

fn phase(pod: &Pod) -> &str {
    crate::controllers::pods::phase(pod)
}

fn end(pod: &mut Pod, phase: &str, code: i32, now: Timestamp) {
    let state = json!({"terminated": {"exitCode": code, "finishedAt": now.to_string()}});
    let container = json!({"name": "c", "image": "a", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    pod.status = Some(serde_json::from_value(json!({"phase": phase, "containerStatuses": [container]})).expect("a status"));
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(kind, reason)| (kind.to_owned(), reason.to_owned())).to_vec()
}

#[test]
fn a_job_runs_so_many_pods_at_once_until_enough_succeeded() {
    let mut world = World::new(job(json!({"parallelism": 2, "completions": 3})));
    world.settle();
    assert_eq!(world.running(), ["p1", "p2"]);
    assert_eq!(world.counts(), (2, 0, 0));
    world.end("p1", "Succeeded", 0);
    world.settle();
    assert_eq!((world.running(), world.counts()), (vec!["p2", "p3"], (2, 1, 0)));
    world.end("p2", "Succeeded", 0);
    world.settle();
    assert_eq!(world.running(), ["p3"], "no more than are still needed");
    world.end("p3", "Succeeded", 0);
    world.settle();
    assert_eq!(world.counts(), (0, 3, 0));
    assert_eq!(world.conditions(), pairs([("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]));
    assert_eq!(world.events, ["Completed: Job completed"]);
    assert!(world.job.status.as_ref().is_some_and(|status| status.completion_time.is_some()));
    assert!(world.pods.iter().all(|pod| pod.metadata.finalizers.is_none()));
}

#[test]
fn without_completions_one_success_ends_the_job_when_the_others_have_ended() {
    let mut world = World::new(job(json!({"parallelism": 2, "completions": null})));
    world.settle();
    world.end("p1", "Succeeded", 0);
    world.settle();
    assert_eq!((world.running(), is_finished(&world.job)), (vec!["p2"], false));
    world.end("p2", "Failed", 1);
    world.settle();
    assert_eq!((world.counts(), is_finished(&world.job)), ((0, 1, 1), true));
}

#[test]
fn failed_pods_come_back_after_ten_seconds_then_twenty() {
    let mut world = World::new(job(json!({})));
    world.settle();
    world.end("p1", "Failed", 1);
    world.settle();
    assert_eq!(world.running(), Vec::<&str>::new());
    assert_eq!(world.plan().again_after, Some(Duration::from_secs(10)));
    world.pass(10);
    world.settle();
    assert_eq!(world.running(), ["p2"]);
    world.end("p2", "Failed", 1);
    world.settle();
    assert_eq!(world.plan().again_after, Some(Duration::from_secs(20)));
    assert_eq!(world.counts(), (0, 0, 2));
}

#[test]
fn a_job_fails_when_more_pods_failed_than_it_allows() {
    let mut world = World::new(job(json!({"backoffLimit": 1, "parallelism": 2, "completions": 2})));
    world.settle();
    world.end("p1", "Failed", 1);
    world.settle();
    assert!(!is_finished(&world.job));
    world.pass(100);
    world.settle();
    world.end("p2", "Failed", 1);
    world.step();
    assert_eq!(world.conditions(), pairs([("FailureTarget", "BackoffLimitExceeded")]), "its pods are not counted yet");
    world.settle();
    assert_eq!(world.conditions(), pairs([("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]));
    assert_eq!(world.running(), Vec::<&str>::new(), "what still ran is taken away");
    assert_eq!(world.counts(), (0, 0, 3));
    assert_eq!(world.events, ["BackoffLimitExceeded: Job has reached the specified backoff limit"]);
}

#[test]
fn a_job_that_takes_too_long_fails() {
    let mut world = World::new(job(json!({"activeDeadlineSeconds": 5})));
    world.settle();
    assert_eq!(world.plan().again_after, Some(Duration::from_secs(5)));
    world.pass(5);
    world.settle();
    assert_eq!(world.conditions(), pairs([("FailureTarget", "DeadlineExceeded"), ("Failed", "DeadlineExceeded")]));
    assert_eq!(world.running(), Vec::<&str>::new());
}

#[test]
fn a_suspended_job_has_no_pods_and_begins_anew_when_resumed() {
    let mut world = World::new(job(json!({"suspend": true, "activeDeadlineSeconds": 100})));
    world.settle();
    assert_eq!((world.pods.len(), world.job.status.clone().expect("a status").start_time), (0, None));
    assert_eq!(world.conditions(), pairs([("Suspended", "JobSuspended")]));
    world.job.spec.as_mut().expect("a spec").suspend = Some(false);
    world.pass(1000);
    world.settle();
    assert_eq!((world.running(), world.conditions()), (vec!["p1"], pairs([])));
    assert_eq!(world.job.status.clone().expect("a status").start_time, Some(Time(world.now)));
    world.job.spec.as_mut().expect("a spec").suspend = Some(true);
    world.settle();
    assert_eq!((world.pods.len(), world.counts()), (0, (0, 0, 0)), "pods that suspension ends do not count");
    assert_eq!(world.events, ["Suspended: Job suspended", "Resumed: Job resumed", "Suspended: Job suspended"]);
}

#[test]
fn pods_told_to_go_are_replaced_at_once_or_when_they_have_gone() {
    for (replacement, running) in [("TerminatingOrFailed", vec!["p2"]), ("Failed", vec![])] {
        let mut world = World::new(job(json!({"podReplacementPolicy": replacement})));
        world.settle();
        let now = Some(Time(world.now));
        world.pod("p1").metadata.deletion_timestamp = now;
        world.pass(100);
        for action in world.plan().actions {
            world.apply(action);
        }
        let started: Vec<_> = world.running().into_iter().filter(|name| *name != "p1").collect();
        assert_eq!(started, running, "{replacement}");
        assert_eq!(world.job.status.as_ref().and_then(|status| status.terminating), Some(1));
    }
}

#[test]
fn restarts_of_containers_count_where_pods_restart_them() {
    let mut world = World::new(job(json!({"backoffLimit": 2})));
    world.job.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()).expect("a spec").restart_policy = Some("OnFailure".into());
    world.settle();
    let container = |restarts: i32| json!([{"name": "c", "image": "a", "imageID": "", "ready": true, "restartCount": restarts}]);
    world.pod("p1").status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": container(1)})).expect("a status");
    world.settle();
    assert!(!is_finished(&world.job));
    world.pod("p1").status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": container(2)})).expect("a status");
    world.settle();
    assert!(is_finished(&world.job));
}

#[test]
fn a_deleted_job_lets_its_pods_go_and_makes_no_more() {
    let mut world = World::new(job(json!({"parallelism": 2, "completions": 2})));
    world.settle();
    world.job.metadata.deletion_timestamp = Some(Time(world.now));
    world.end("p1", "Failed", 1);
    world.settle();
    assert!(world.pods.iter().all(|pod| pod.metadata.finalizers.is_none()));
    assert_eq!(world.pods.len(), 2);
}

#[test]
fn a_job_whose_pods_are_freed_is_not_done() {
    let spec = json!({"parallelism": 2, "completions": null});
    let freed = |finalizer: &str| {
        let mut world = World::new(job(spec.clone()));
        world.settle();
        world.end("p1", "Succeeded", 0);
        world.settle();
        assert_eq!((world.running(), world.counts()), (vec!["p2"], (1, 1, 0)));
        world.job.metadata.deletion_timestamp = Some(Time(world.now));
        world.job.metadata.finalizers = Some(vec![finalizer.into()]);
        world.pod("p2").metadata.owner_references = None;
        world.settle();
        (world.conditions(), world.events)
    };
    assert_eq!(freed("orphan"), (Vec::new(), Vec::new()));
    assert_eq!(freed("example.com/kept").1, ["Completed: Job completed"], "it goes only when somebody lets it, and has no pods");
}

#[test]
fn finalizers_that_no_job_takes_off_are_orphaned() {
    let mut world = World::new(job(json!({})));
    world.settle();
    let pod = world.pod("p1").clone();
    assert!(!is_orphan(&pod, Some(&world.job)));
    assert!(is_orphan(&pod, None));
    let mut namesake = world.job.clone();
    namesake.metadata.uid = Some("another".into());
    assert!(is_orphan(&pod, Some(&namesake)));
    let mut alone = pod.clone();
    alone.metadata.owner_references = None;
    assert!(is_orphan(&alone, None));
    world.end("p1", "Succeeded", 0);
    world.settle();
    assert!(is_orphan(&pod, Some(&world.job)), "the job is finished");
    world.job.spec.as_mut().expect("a spec").managed_by = Some("example.com/other".into());
    assert!(!is_orphan(&pod, Some(&world.job)));
}

proptest! {
    /// Whatever pods do, they are counted once, applying a plan leaves nothing to do, and the job ends.
    #[test]
    fn every_pod_is_counted_once(
        completions in 1_i32..6, parallelism in 1_i32..4, by_index in any::<bool>(), limit in 0_i32..5, ends in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mode = if by_index { "Indexed" } else { "NonIndexed" };
        let spec = json!({"completions": completions, "parallelism": parallelism, "completionMode": mode, "backoffLimit": limit});
        let mut world = World::new(job(spec));
        let (mut succeeded, mut failed) = (0, 0);
        for success in ends {
            world.settle();
            prop_assert_eq!(world.plan().actions, vec![]);
            let Some(name) = world.running().first().map(|name| (*name).to_owned()) else { break };
            if success { succeeded += 1 } else { failed += 1 }
            world.end(&name, if success { "Succeeded" } else { "Failed" }, i32::from(!success));
            world.settle();
            world.pass(1000);
        }
        world.settle();
        prop_assert!(is_finished(&world.job));
        let complete = succeeded >= completions;
        prop_assert_eq!(world.conditions().iter().any(|(kind, _)| kind == "Complete"), complete);
        let (active, counted, failures) = world.counts();
        prop_assert_eq!((active, counted), (0, succeeded));
        // Pods that are taken away when the job fails have failed too.
        let removed = if complete { 0 } else { failures - failed };
        prop_assert!((0..parallelism).contains(&removed), "{removed} of {parallelism}");
        prop_assert_eq!(failures, failed + removed);
        let uncounted = world.job.status.and_then(|status| status.uncounted_terminated_pods).unwrap_or_default();
        prop_assert_eq!(uncounted, Default::default());
    }
}

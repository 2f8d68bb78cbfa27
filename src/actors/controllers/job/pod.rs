//! What a job plans on: of each pod so little that thousands are planned on at each look.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use troupe_api::projection::MetaProjection;

use super::FINALIZER;
use crate::{controllers::pods::PodStanding, runtime::cache::Digest};

/// The index of an indexed job's pod; a label as well.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How many pods of this index failed before.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How many failed before without counting.
pub const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// See the module.
#[derive(Debug)]
pub struct JobPod {
    pub meta: Arc<MetaProjection>,
    pub standing: PodStanding,
    /// Its index, if it says one.
    pub index: Option<i32>,
    /// How many pods of the index failed before this one, counting ones only.
    pub failures_before: i32,
    /// How many did without counting.
    pub ignored_before: i32,
    /// Of all its containers together.
    pub restarts: i32,
    /// When it ended, as far as can be told.
    pub finished_at: Timestamp,
    /// Containers that ended with another code than 0, those of its beginning last.
    pub exits: Box<[Exit]>,
    /// The types and statuses of its conditions.
    pub conditions: Box<[(Box<str>, Box<str>)]>,
}

/// How a container ended.
#[derive(Debug)]
pub struct Exit {
    pub container: Box<str>,
    pub code: i32,
}

impl Digest<Pod> for JobPod {
    fn of(meta: &Arc<MetaProjection>, pod: &Pod) -> Self {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        JobPod {
            meta: meta.clone(),
            standing: PodStanding::of(pod),
            index: index_of(pod),
            failures_before: number(pod, FAILURES),
            ignored_before: number(pod, IGNORED),
            restarts: restarts(pod),
            finished_at: finished_at(pod),
            exits: exits(pod).collect(),
            conditions: conditions.map(|condition| (condition.type_.as_str().into(), condition.status.as_str().into())).collect(),
        }
    }
}

impl JobPod {
    /// It still has to be counted.
    pub fn is_tracked(&self) -> bool {
        self.meta.finalizers.iter().any(|finalizer| **finalizer == *FINALIZER)
    }

    /// How many pods of the index failed before this one.
    pub fn all_failures_before(&self) -> i32 {
        self.failures_before.saturating_add(self.ignored_before)
    }
}

/// The pod's index, if it says one.
pub fn index_of(pod: &Pod) -> Option<i32> {
    let text = pod.metadata.annotations.as_ref()?.get(INDEX)?;
    text.parse().ok().filter(|index| *index >= 0)
}

fn number(pod: &Pod, annotation: &str) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation));
    text.and_then(|text| text.parse().ok()).filter(|number| *number >= 0).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| [&status.init_container_statuses, &status.container_statuses]);
    statuses.flat_map(|statuses| statuses.iter().flatten()).fold(0, |total: i32, status| total.saturating_add(status.restart_count))
}

fn exits(pod: &Pod) -> impl Iterator<Item = Exit> {
    let statuses = pod.status.iter().flat_map(|status| [&status.container_statuses, &status.init_container_statuses]);
    statuses.flat_map(|statuses| statuses.iter().flatten()).filter_map(|status| {
        let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
        (code != 0).then(|| Exit { container: status.name.as_str().into(), code })
    })
}

/// When a pod ended, as far as can be told: its containers' last end, when it stopped being ready, when it was told to
/// go, or when it was made.
fn finished_at(pod: &Pod) -> Timestamp {
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    of_containers(pod).or_else(|| of_condition(pod)).or_else(|| of_deletion(pod)).or_else(created).unwrap_or_default()
}

/// `None` unless all containers, and sidecars, have ended.
fn of_containers(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<_> = inits.filter(|container| container.restart_policy.as_deref() == Some("Always")).map(|container| &container.name).collect();
    let beside = status.init_container_statuses.iter().flatten().filter(|status| sidecars.contains(&&status.name));
    let statuses = status.container_statuses.iter().flatten().chain(beside);
    let ends: Option<Vec<Timestamp>> = statuses.map(end).collect();
    ends?.into_iter().max()
}

fn end(status: &ContainerStatus) -> Option<Timestamp> {
    Some(status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)
}

fn of_condition(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "False")?;
    unready.last_transition_time.as_ref().map(|time| time.0)
}

fn of_deletion(pod: &Pod) -> Option<Timestamp> {
    let deadline = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = jiff::SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    deadline.checked_sub(grace).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::cache::digest_of;

    fn digest(metadata: Value, status: Value) -> Arc<JobPod> {
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": []}, "status": status})).expect("a pod");
        digest_of(&pod)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_digest_says_what_a_job_asks() {
        let container = |name: &str, code: Option<i32>, restarts: i32| {
            let ended = |code: i32| json!({"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:00:07Z"}});
            let state = code.map_or(json!({}), ended);
            json!({"name": name, "image": "a", "imageID": "", "ready": false, "restartCount": restarts, "state": state})
        };
        let annotations = json!({INDEX: "3", FAILURES: "2", IGNORED: "1"});
        let pod = digest(
            json!({"name": "p", "uid": "u", "finalizers": ["other", FINALIZER], "annotations": annotations}),
            json!({"phase": "Failed", "containerStatuses": [container("a", Some(42), 1), container("b", Some(0), 2)],
                "initContainerStatuses": [container("i", Some(1), 4)], "conditions": [{"type": "DisruptionTarget", "status": "True"}]}),
        );
        assert_eq!((pod.index, pod.failures_before, pod.ignored_before, pod.all_failures_before()), (Some(3), 2, 1, 3));
        assert_eq!((pod.restarts, pod.finished_at), (7, at("2026-01-01T00:00:07Z")));
        let exits: Vec<(&str, i32)> = pod.exits.iter().map(|exit| (&*exit.container, exit.code)).collect();
        assert_eq!(exits, [("a", 42), ("i", 1)]);
        let conditions: Vec<(&str, &str)> = pod.conditions.iter().map(|(kind, status)| (&**kind, &**status)).collect();
        assert_eq!(conditions, [("DisruptionTarget", "True")]);
        assert!(pod.is_tracked() && !digest(json!({"finalizers": ["other"]}), json!({})).is_tracked());
    }

    #[test]
    fn a_pod_ended_when_its_last_container_did_or_when_it_was_told_to_go() {
        let running = json!([{"name": "c", "image": "a", "imageID": "", "ready": false, "restartCount": 0, "state": {"running": {}}}]);
        let metadata = json!({"deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 30});
        let told = digest(metadata, json!({"phase": "Running", "containerStatuses": running}));
        assert_eq!(told.finished_at, at("2026-01-01T00:00:30Z"));
        let made = digest(json!({"creationTimestamp": "2026-01-01T00:00:00Z"}), json!({"phase": "Running", "containerStatuses": running}));
        assert_eq!(made.finished_at, at("2026-01-01T00:00:00Z"));
    }
}

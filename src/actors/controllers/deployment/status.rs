//! A Deployment's status and conditions. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::model::{Sets, available, existing, max_unavailable, sum};

const NO_DEADLINE: i32 = i32::MAX;
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// What a step says about a rollout's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimate {
    /// Nothing: the Deployment is scaled, or goes.
    None,
    /// It is paused.
    Paused,
    /// It makes the set of the current template.
    Created,
    /// Whatever its pods say.
    Progress,
}

/// The status that follows from the ReplicaSets.
pub fn compute(deployment: &Deployment, sets: &Sets, estimate: Estimate, now: Timestamp) -> DeploymentStatus {
    let sum = |count: &dyn Fn(&ReplicaSet) -> i32| sum(sets.all(), count);
    let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let leaving = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0);
    let (total, is_available) = (sum(&existing), sum(&available));
    let wanted = wanted_replicas(deployment);
    let some = |number: i32| (number != 0).then_some(number);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(sets.new.as_ref().map_or(0, |set| existing(set))),
        ready_replicas: some(sum(&ready)),
        available_replicas: some(is_available),
        unavailable_replicas: some(wanted_by_sets(sets).saturating_sub(is_available).max(0)),
        terminating_replicas: Some(sum(&leaving)),
        collision_count: deployment.status.as_ref().and_then(|status| status.collision_count),
        conditions: deployment.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let enough = is_available >= wanted.saturating_sub(max_unavailable(deployment));
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut status, "Available", value, reason, message, now);
    progress(deployment, sets, &mut status, estimate, now);
    replica_failure(&mut status, sets, now);
    status
}

fn wanted_replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn wanted_by_sets(sets: &Sets) -> i32 {
    sum(sets.all(), super::model::wanted)
}

/// All replicas are of the current template and available, and no old pod is left.
pub fn is_complete(deployment: &Deployment, sets: &Sets) -> bool {
    let wanted = wanted_replicas(deployment);
    let new = sets.new.as_ref();
    let current = |count: &dyn Fn(&ReplicaSet) -> i32| new.map_or(0, |set| count(set)) == wanted;
    let total = sum(sets.all(), existing);
    let all_available = sum(sets.all(), available);
    new.is_some() && current(&existing) && total == wanted && all_available == wanted
}

fn replica_failure(status: &mut DeploymentStatus, sets: &Sets, now: Timestamp) {
    let failing = sets.all().find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
    });
    match failing {
        Some(failure) => {
            let (reason, message) = (failure.reason.as_deref().unwrap_or_default(), failure.message.as_deref().unwrap_or_default());
            set_condition(status, "ReplicaFailure", "True", reason, message, now);
        }
        None => {
            if let Some(conditions) = &mut status.conditions {
                conditions.retain(|condition| condition.type_ != "ReplicaFailure");
            }
        }
    }
}

/// The Progressing condition: new set available, progress made, or the deadline passed. A rollout that is over stays so whatever becomes of its
/// pods later: what they lack then is no lack of progress.
fn progress(deployment: &Deployment, sets: &Sets, status: &mut DeploymentStatus, estimate: Estimate, now: Timestamp) {
    const PROGRESSING: &str = "Progressing";
    let deadline = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).unwrap_or(600);
    if deadline == NO_DEADLINE {
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|condition| condition.type_ != PROGRESSING);
        }
        return;
    }
    let found = sets.new.as_ref().filter(|_| condition(status, PROGRESSING).is_none());
    if let Some(new) = found {
        let message = format!("Found new replica set \"{}\"", new.metadata.name.as_deref().unwrap_or_default());
        set_condition(status, PROGRESSING, "True", "FoundNewReplicaSet", &message, now);
    }
    let current = condition(status, PROGRESSING).cloned();
    let reason = current.as_ref().and_then(|condition| condition.reason.as_deref()).unwrap_or_default();
    match estimate {
        Estimate::None => return,
        Estimate::Paused => {
            // That there was no progress stays said.
            if reason != TIMED_OUT {
                set_condition(status, PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused", now);
            }
            return;
        }
        _ if reason == "DeploymentPaused" => {
            set_condition(status, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now);
            return;
        }
        Estimate::Created => {
            let message = format!("Created new replica set \"{}\"", next_name(deployment));
            set_condition(status, PROGRESSING, "True", "NewReplicaSetCreated", &message, now);
            return;
        }
        Estimate::Progress => {}
    }
    if reason == "NewReplicaSetAvailable" && status.replicas == status.updated_replicas {
        return;
    }
    let subject = match &sets.new {
        Some(new) => format!("ReplicaSet \"{}\"", new.metadata.name.as_deref().unwrap_or_default()),
        None => format!("Deployment \"{}\"", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if is_complete(deployment, sets) {
        let message = format!("{subject} has successfully progressed.");
        set_condition(status, PROGRESSING, "True", "NewReplicaSetAvailable", &message, now);
    } else if has_progressed(deployment.status.as_ref(), status) {
        touch_condition(status, PROGRESSING, "ReplicaSetUpdated", &format!("{subject} is progressing."), now);
    } else if reason != "NewReplicaSetAvailable" && is_late(deployment, current.as_ref(), now) {
        set_condition(status, PROGRESSING, "False", TIMED_OUT, &format!("{subject} has timed out progressing."), now);
    }
}

/// The status after the set of the current template could not be made; `None` where it says so already, or nobody asks for progress.
pub fn with_create_error(deployment: &Deployment, message: &str, now: Timestamp) -> Option<DeploymentStatus> {
    if deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds) == Some(NO_DEADLINE) {
        return None;
    }
    let mut status = deployment.status.clone().unwrap_or_default();
    set_condition(&mut status, "Progressing", "False", "ReplicaSetCreateError", message, now);
    (deployment.status.as_ref() != Some(&status)).then_some(status)
}

fn next_name(deployment: &Deployment) -> String {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = deployment.spec.as_ref().map(|spec| super::template::template_hash(&spec.template, collisions)).unwrap_or_default();
    format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())
}

/// More new pods, fewer old ones, or more ready or available ones than before.
fn has_progressed(before: Option<&DeploymentStatus>, after: &DeploymentStatus) -> bool {
    let Some(before) = before else { return after.updated_replicas.is_some() || after.ready_replicas.is_some() };
    let number = |value: Option<i32>| value.unwrap_or(0);
    let old = |status: &DeploymentStatus| number(status.replicas).saturating_sub(number(status.updated_replicas));
    number(after.updated_replicas) > number(before.updated_replicas)
        || old(after) < old(before)
        || number(after.ready_replicas) > number(before.ready_replicas)
        || number(after.available_replicas) > number(before.available_replicas)
}

fn deadline(deployment: &Deployment) -> i64 {
    i64::from(deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).unwrap_or(600))
}

fn is_late(deployment: &Deployment, progressing: Option<&DeploymentCondition>, now: Timestamp) -> bool {
    let since = progressing.and_then(|condition| condition.last_update_time.as_ref());
    since.is_some_and(|since| now.duration_since(since.0).as_secs() >= deadline(deployment))
}

/// When the progress deadline may pass.
pub fn next_look(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let progressing = condition(status, "Progressing")?;
    let settled = matches!(progressing.reason.as_deref(), Some("NewReplicaSetAvailable" | TIMED_OUT | "DeploymentPaused"));
    let since = progressing.last_update_time.as_ref()?.0;
    let left = deadline(deployment) - now.duration_since(since).as_secs();
    (!settled).then(|| Duration::from_secs(left.max(1).unsigned_abs()))
}

fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Sets a condition where its status or reason changes. What changes stands last.
fn set_condition(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let known = condition(status, kind);
    if known.is_some_and(|known| known.status == value && known.reason.as_deref() == Some(reason)) {
        return;
    }
    let since = known.filter(|known| known.status == value).map_or(Some(Time(now)), |known| known.last_transition_time.clone());
    replace_condition(status, kind, value, reason, message, now, since);
}

/// Sets a condition that is True, and the time of its update also where nothing else changes: progress counts.
fn touch_condition(status: &mut DeploymentStatus, kind: &str, reason: &str, message: &str, now: Timestamp) {
    let since = condition(status, kind).filter(|known| known.status == "True").map_or(Some(Time(now)), |known| known.last_transition_time.clone());
    replace_condition(status, kind, "True", reason, message, now, since);
}

fn replace_condition(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp, since: Option<Time>) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(DeploymentCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: since,
    });
}

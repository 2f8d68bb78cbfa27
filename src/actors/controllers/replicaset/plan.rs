//! What a ReplicaSet needs: pods to adopt, release, create or delete, and its status. Pure.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use troupe_api::meta::LabelSelector;

use crate::controllers::{
    owners::{Claim, Named, claim_by_meta},
    pace,
    pod_digest::PodDigest,
    pods::next_available,
};

/// One step. Steps are applied in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Adopt {
        pod: String,
        uid: String,
    },
    Release {
        pod: String,
        uid: String,
    },
    /// Makes this many pods from the template.
    Create {
        count: usize,
    },
    Delete {
        pod: String,
        uid: String,
    },
    UpdateStatus(Box<ReplicaSetStatus>),
}

/// What to do now, and when to look again although nothing changes (a pod becoming available).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub again_after: Option<Duration>,
    /// Pods are missing that are not made yet, because too many of those there are wait to run.
    pub held_back: bool,
}

/// Plans for `set`, given the pods of its namespace that it owns or could own, those of all sets with the same controller (they crowd
/// nodes), and what the last attempt to create pods failed with, if it did.
pub fn plan(set: &ReplicaSet, pods: &[Arc<PodDigest>], related: &[Arc<PodDigest>], failure: Option<&str>, now: Timestamp) -> Plan {
    let Some(spec) = &set.spec else { return Plan::default() };
    let selector = LabelSelector::from(&spec.selector);
    let terminating = set.metadata.deletion_timestamp.is_some();
    let mut plan = Plan::default();
    let mut owned = Vec::new();
    for pod in pods {
        let named = || Named::by_meta(&pod.meta);
        match claim_by_meta(&set.metadata, &pod.meta, &selector) {
            Claim::Owned => owned.push(pod),
            Claim::Release if !terminating => {
                let Named { name, uid } = named();
                plan.actions.push(Action::Release { pod: name, uid });
            }
            Claim::Adopt if !terminating && pod.standing.is_active() => {
                let Named { name, uid } = named();
                plan.actions.push(Action::Adopt { pod: name, uid });
                owned.push(pod);
            }
            _ => {}
        }
    }
    let active: Vec<&Arc<PodDigest>> = owned.iter().copied().filter(|pod| pod.standing.is_active()).collect();
    if !terminating {
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let lacks = active.len() < wanted;
        let room = if lacks { pace::room(owned.iter().map(|pod| pod.standing), &spec.template, now) } else { 0 };
        plan.held_back = room == 0 && lacks;
        plan.actions.extend(scale(wanted, room, &active, related, now));
    }
    let leaving = owned.iter().filter(|pod| pod.standing.is_terminating()).count();
    let status = status(set, &active, leaving, failure, now);
    if set.status.as_ref() != Some(&status) {
        plan.actions.push(Action::UpdateStatus(Box::new(status)));
    }
    let available = next_available(active.iter().map(|pod| pod.standing), spec.min_ready_seconds.unwrap_or(0), now);
    plan.again_after = available.into_iter().chain(plan.held_back.then_some(pace::AGAIN)).min();
    plan
}

fn scale(wanted: usize, room: usize, active: &[&Arc<PodDigest>], related: &[Arc<PodDigest>], now: Timestamp) -> Vec<Action> {
    if active.len() < wanted {
        let count = (wanted - active.len()).min(room);
        return if count > 0 { vec![Action::Create { count }] } else { Vec::new() };
    }
    let excess = (active.len() - wanted).min(pace::BURST);
    if excess == 0 {
        return Vec::new();
    }
    let mut ranked = active.to_vec();
    // Of pods that crowd a node some go first: the more on its node, the sooner.
    let mut crowds: HashMap<Option<&str>, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pod.standing.is_active()) {
        *crowds.entry(pod.node()).or_default() += 1;
    }
    let crowd = |pod: &PodDigest| crowds.get(&pod.node()).copied().unwrap_or(0);
    ranked.sort_by_cached_key(|pod| (pod.standing.rank_for_deletion(crowd(pod), now), pod.meta.uid.clone()));
    let doomed = ranked.into_iter().take(excess).map(|pod| Named::by_meta(&pod.meta));
    doomed.map(|Named { name, uid }| Action::Delete { pod: name, uid }).collect()
}

fn status(set: &ReplicaSet, active: &[&Arc<PodDigest>], leaving: usize, failure: Option<&str>, now: Timestamp) -> ReplicaSetStatus {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    // Zeros are left out, as the API writes them.
    let some = |number: usize| (number > 0).then(|| count(number));
    let spec = set.spec.as_ref();
    let template = spec.and_then(|spec| spec.template.as_ref()).and_then(|template| template.metadata.as_ref()).and_then(|meta| meta.labels.clone());
    let template = template.unwrap_or_default();
    let labelled = |pod: &PodDigest| template.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value.as_str()));
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(active.iter().filter(|pod| labelled(pod)).count()),
        ready_replicas: some(active.iter().filter(|pod| pod.standing.is_ready).count()),
        available_replicas: some(active.iter().filter(|pod| pod.standing.is_available(min_ready, now)).count()),
        terminating_replicas: Some(count(leaving)),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, failure, now),
    }
}

fn conditions(set: &ReplicaSet, failure: Option<&str>, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let known = conditions.iter().any(|condition| condition.type_ == "ReplicaFailure");
    match failure {
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some(message) if !known => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some("FailedCreate".into()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

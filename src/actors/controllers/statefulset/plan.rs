//! What a StatefulSet needs: its revisions in order, its pods by ordinal with their claims, and its status. Pure.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, Pod},
};
use troupe_api::meta::LabelSelector;

use super::{
    claims::Claims,
    history::{self, History},
    identity::{is_member, new_pod, ordinal, ordinals},
    replicas, rolling,
    status::status,
};
use crate::controllers::{
    owners::{Claim, claim_if},
    pods::{is_available, next_available},
};

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
    AdoptRevision {
        name: String,
        uid: String,
    },
    CreateRevision(Box<ControllerRevision>),
    UpdateRevision(Box<ControllerRevision>),
    DeleteRevision {
        name: String,
        uid: String,
    },
    /// Makes a claim for a pod.
    CreateClaim {
        claim: Box<PersistentVolumeClaim>,
        pod: String,
    },
    /// Gives a claim other owners; `conflict`: somebody else controls it.
    UpdateClaim {
        claim: Box<PersistentVolumeClaim>,
        conflict: bool,
    },
    CreatePod(Box<Pod>),
    UpdatePod(Box<Pod>),
    DeletePod {
        pod: String,
        uid: String,
    },
    /// A pod cannot be made yet; `announce` tells people.
    Wait {
        pod: String,
        why: String,
        announce: bool,
    },
    UpdateStatus(Box<StatefulSetStatus>),
}

/// What a plan is made from. Pods and revisions are those that the set owns or could own; claims those named as its own.
pub struct Snapshot<'a> {
    pub set: &'a StatefulSet,
    pub pods: &'a [Arc<Pod>],
    pub claims: &'a Claims,
    pub revisions: &'a [Arc<ControllerRevision>],
}

/// What to do now, and when to look again although nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub again_after: Option<Duration>,
}

/// A place in the set: the pod that stands there, or the one that shall.
pub enum Replica<'a> {
    There(&'a Arc<Pod>),
    Missing(Box<Pod>),
}

impl Replica<'_> {
    pub fn pod(&self) -> &Pod {
        match self {
            Replica::There(pod) => pod,
            Replica::Missing(pod) => pod,
        }
    }
}

/// The set with its pods in order.
pub struct View<'a> {
    pub set: &'a StatefulSet,
    pub claims: &'a Claims,
    pub history: &'a History,
    /// By ordinal, lowest first.
    pub replicas: Vec<(i32, Replica<'a>)>,
    /// Pods of ordinals that the set does not have (any more), highest first.
    pub condemned: Vec<(i32, &'a Arc<Pod>)>,
    pub min_ready: i32,
    /// One step at a time, each when the last one is done (`OrderedReady`).
    pub in_order: bool,
    pub now: Timestamp,
}

impl View<'_> {
    /// Not available, or about to go.
    pub fn is_unavailable(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_some() || !is_available(pod, self.min_ready, self.now)
    }
}

/// Plans for a set. One that is being deleted only gets its status.
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let set = snapshot.set;
    let Some(spec) = &set.spec else { return Plan::default() };
    let deleted = set.metadata.deletion_timestamp.is_some();
    let mut actions = Vec::new();
    let mut pods = claimed(set, snapshot.pods, &mut actions);
    pods.sort_by_key(|pod| ordinal(set, pod));
    let history = history::arrange(set, snapshot.revisions, &mut actions);
    if deleted {
        // Its pods and revisions are the garbage collector's.
        actions.clear();
    }
    let view = view(snapshot, &pods, &history, now);
    if !deleted && replicas::settle(&view, &mut actions) {
        actions.extend(rolling::outdated(&view).into_iter().map(|pod| delete(pod)));
    }
    let status = status(&view, &pods, &actions);
    let surplus = history::surplus(set, &history, &status, &pods);
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::UpdateStatus(Box::new(status)));
    }
    if !deleted {
        actions.extend(surplus);
    }
    let again_after = next_available(pods.iter().map(|pod| &***pod), spec.min_ready_seconds.unwrap_or(0), now);
    Plan { actions, again_after }
}

fn claimed<'a>(set: &StatefulSet, pods: &'a [Arc<Pod>], actions: &mut Vec<Action>) -> Vec<&'a Arc<Pod>> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let (selector, empty) = (LabelSelector::from(&spec.selector), BTreeMap::new());
    let mut ours = Vec::new();
    for pod in pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let matches = is_member(set, pod) && selector.matches(pod.metadata.labels.as_ref().unwrap_or(&empty));
        match claim_if(&set.metadata, &pod.metadata, matches) {
            Claim::Owned => ours.push(pod),
            Claim::Adopt => {
                actions.push(Action::AdoptPod { pod: name, uid });
                ours.push(pod);
            }
            Claim::Release => actions.push(Action::ReleasePod { pod: name, uid }),
            Claim::Ignore => {}
        }
    }
    ours
}

fn view<'a>(snapshot: &Snapshot<'a>, pods: &[&'a Arc<Pod>], history: &'a History, now: Timestamp) -> View<'a> {
    let set = snapshot.set;
    let range = ordinals(set);
    let (mut there, mut condemned) = (BTreeMap::new(), Vec::new());
    for pod in pods {
        match ordinal(set, pod) {
            Some(ordinal) if range.contains(&ordinal) => {
                there.insert(ordinal, *pod);
            }
            Some(ordinal) => condemned.push((ordinal, *pod)),
            None => {}
        }
    }
    condemned.sort_by_key(|(ordinal, _)| Reverse(*ordinal));
    let replica = |ordinal| match there.get(&ordinal) {
        Some(pod) => (ordinal, Replica::There(pod)),
        None => (ordinal, Replica::Missing(Box::new(missing(set, history, ordinal)))),
    };
    let spec = set.spec.as_ref();
    View {
        set,
        claims: snapshot.claims,
        history,
        replicas: range.map(replica).collect(),
        condemned,
        min_ready: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
        in_order: spec.and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel"),
        now,
    }
}

/// The pod an ordinal lacks: below the partition it comes back as it was.
fn missing(set: &StatefulSet, history: &History, ordinal: i32) -> Pod {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let is_rolling = strategy.is_none_or(|strategy| strategy.type_.as_deref() != Some("OnDelete"));
    let kept = match rolling {
        Some(rolling) => rolling.partition.unwrap_or(0),
        None if is_rolling => set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
        None => 0,
    };
    let from = if ordinal < ordinals(set).start.saturating_add(kept) { &history.current } else { &history.update };
    new_pod(set, &from.template, &from.revision, ordinal)
}

/// Deletes a pod.
pub fn delete(pod: &Pod) -> Action {
    Action::DeletePod { pod: pod.metadata.name.clone().unwrap_or_default(), uid: pod.metadata.uid.clone().unwrap_or_default() }
}

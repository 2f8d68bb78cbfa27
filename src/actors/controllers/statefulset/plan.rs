//! What a StatefulSet needs: its revisions in order, its pods by ordinal with their claims, and its status. Pure.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

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
    owners::{self, Named},
    pace,
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
    /// Pods are missing that are not made yet, because too many of those there are wait to run.
    pub held_back: bool,
}

/// The set with its pods in order. Ordinals without a pod are not held: there may be two thousand million of them.
pub struct View<'a> {
    pub set: &'a StatefulSet,
    pub claims: &'a Claims,
    pub history: &'a History,
    /// The ordinals that the set has.
    pub range: Range<i32>,
    /// The pods of these ordinals that there are.
    pub there: BTreeMap<i32, &'a Arc<Pod>>,
    /// Pods of ordinals that the set does not have (any more), highest first.
    pub condemned: Vec<(i32, &'a Arc<Pod>)>,
    pub min_ready: i32,
    /// One step at a time, each when the last one is done (`OrderedReady`).
    pub in_order: bool,
    /// No more pods than this are made now.
    pub room: usize,
    pub now: Timestamp,
}

impl<'a> View<'a> {
    /// Not available, or about to go.
    pub fn is_unavailable(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_some() || !is_available(pod, self.min_ready, self.now)
    }

    /// How many ordinals have no pod.
    pub fn missing_count(&self) -> usize {
        self.size().saturating_sub(self.there.len())
    }

    /// How many ordinals the set has.
    pub fn size(&self) -> usize {
        self.range.len()
    }

    /// The ordinals to look after now, lowest first: all that have a pod, and the lowest of those that lack one.
    pub fn due(&self) -> BTreeMap<i32, Option<&'a Arc<Pod>>> {
        let missing = self.range.clone().filter(|ordinal| !self.there.contains_key(ordinal)).take(self.room);
        let there = self.there.iter().map(|(ordinal, pod)| (*ordinal, Some(*pod)));
        there.chain(missing.map(|ordinal| (ordinal, None))).collect()
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
    let held_back = !deleted && view.room == 0 && view.missing_count() > 0;
    let again_after = next_available(pods.iter().map(|pod| &***pod), spec.min_ready_seconds.unwrap_or(0), now);
    let again_after = again_after.into_iter().chain(held_back.then_some(pace::AGAIN)).min();
    Plan { actions, again_after, held_back }
}

fn claimed<'a>(set: &StatefulSet, pods: &'a [Arc<Pod>], actions: &mut Vec<Action>) -> Vec<&'a Arc<Pod>> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let selector = LabelSelector::from(&spec.selector);
    let claimed = owners::claimed(&set.metadata, pods, |pod| is_member(set, pod) && selector.selects(&pod.metadata));
    actions.extend(claimed.adopted.into_iter().map(|Named { name, uid }| Action::AdoptPod { pod: name, uid }));
    actions.extend(claimed.released.into_iter().map(|Named { name, uid }| Action::ReleasePod { pod: name, uid }));
    claimed.ours
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
    let spec = set.spec.as_ref();
    let in_order = spec.and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel");
    View {
        set,
        claims: snapshot.claims,
        history,
        range,
        there,
        condemned,
        min_ready: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
        in_order,
        room: if in_order { 1 } else { pace::room(pods.iter().map(|pod| &***pod), now) },
        now,
    }
}

/// The pod an ordinal lacks: below the partition it comes back as it was.
pub fn missing(set: &StatefulSet, history: &History, ordinal: i32) -> Pod {
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

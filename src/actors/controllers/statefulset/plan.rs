//! What a StatefulSet needs: its revisions in order, its pods by ordinal with their claims, and its status. Pure.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use troupe_api::{meta::LabelSelector, projection::MetaProjection};

use super::{
    history,
    identity::{ordinal, ordinals},
    member::MemberDigest,
    model::{Action, Claims, History, View, delete, is_full},
    replicas, rolling,
    status::status,
};
use crate::controllers::{
    owners::{self, Named},
    pace,
    pods::next_available,
};

/// What a plan is made from. Pods and revisions are those that the set owns or could own; claims those named as its own.
pub struct Snapshot<'a> {
    pub set: &'a StatefulSet,
    pub pods: &'a [Arc<MemberDigest>],
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

/// Plans for a set. One that is being deleted only gets its status.
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let set = snapshot.set;
    let Some(spec) = &set.spec else { return Plan::default() };
    let deleted = set.metadata.deletion_timestamp.is_some();
    let mut actions = Vec::new();
    let mut pods = claimed(set, snapshot.pods, &mut actions);
    pods.sort_by_key(|pod| ordinal(set, &pod.meta.name));
    let history = history::arrange(set, snapshot.revisions, &mut actions);
    if deleted {
        // Its pods and revisions are the garbage collector's.
        actions.clear();
    }
    let view = view(snapshot, &pods, &history, now);
    let mut steps = Vec::new();
    if !deleted && replicas::settle(&view, &mut steps) {
        steps.extend(rolling::outdated(&view).into_iter().take(pace::BURST).map(delete));
    }
    let full = is_full(&steps);
    actions.extend(steps);
    let status = status(&view, &pods, &actions);
    let surplus = history::surplus(set, &history, &status, &pods);
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::UpdateStatus(Box::new(status)));
    }
    if !deleted {
        actions.extend(surplus);
    }
    let held_back = !deleted && view.room == 0 && view.missing_count() > 0;
    let again_after = next_available(pods.iter().map(|pod| pod.standing), spec.min_ready_seconds.unwrap_or(0), now);
    // What was done wakes the set, if it was seen to be done: this is for what was not.
    let cut_short = full.then_some(pace::AGAIN);
    let again_after = again_after.into_iter().chain(held_back.then_some(pace::AGAIN)).chain(cut_short).min();
    Plan { actions, again_after, held_back }
}

fn claimed<'a>(set: &StatefulSet, pods: &'a [Arc<MemberDigest>], actions: &mut Vec<Action>) -> Vec<&'a MemberDigest> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let selector = LabelSelector::from(&spec.selector);
    let could_be = |meta: &MetaProjection| ordinal(set, &meta.name).is_some() && selector.matches_projection(&meta.labels);
    let claimed = owners::claimed_by_meta(&set.metadata, pods, |pod| &pod.meta, could_be);
    actions.extend(claimed.adopted.into_iter().map(|Named { name, uid }| Action::AdoptPod { pod: name, uid }));
    actions.extend(claimed.released.into_iter().map(|Named { name, uid }| Action::ReleasePod { pod: name, uid }));
    claimed.ours.into_iter().map(|pod| &**pod).collect()
}

fn view<'a>(snapshot: &Snapshot<'a>, pods: &[&'a MemberDigest], history: &'a History, now: Timestamp) -> View<'a> {
    let set = snapshot.set;
    let range = ordinals(set);
    let (mut there, mut condemned) = (BTreeMap::new(), Vec::new());
    for pod in pods {
        match ordinal(set, &pod.meta.name) {
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
        // Its claims are in what is counted, too.
        room: if in_order { 1 } else { pace::room(pods.iter().map(|pod| pod.standing), &set.spec, now) },
        now,
    }
}

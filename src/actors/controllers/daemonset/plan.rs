//! What a DaemonSet needs: its revisions in order, one pod on each node it wants, and its status. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::Node,
};
use troupe_api::meta::LabelSelector;

use super::{
    backoff::Backoff,
    eligibility::{Eligibility, Judge},
    history,
    model::{Action, Steps, View},
    placement, rolling, status,
};
use crate::controllers::{
    owners::{self, Named},
    pod_digest::PodDigest,
};

/// No more pods than this are created or deleted in one go (upstream's `BurstReplicas`).
const BURST: usize = 250;

/// What a plan is made from. Pods and revisions are those that the set owns or could own.
pub struct Snapshot<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    pub pods: &'a [Arc<PodDigest>],
    pub revisions: &'a [Arc<ControllerRevision>],
    pub backoff: &'a Backoff,
    /// Whether tolerations compare numbers (the feature `TaintTolerationComparisonOperators`).
    pub compares_tolerations: bool,
}

/// What to do now, and when to look again although nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub again_after: Option<Duration>,
}

/// Plans for a set. One that is being deleted is left to the garbage collector.
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let set = snapshot.set;
    if set.metadata.deletion_timestamp.is_some() || set.spec.is_none() {
        return Plan::default();
    }
    let mut actions = Vec::new();
    let pods = claimed(set, snapshot.pods, &mut actions);
    let history = history::arrange(set, snapshot.revisions, &pods, &mut actions);
    let view = view(snapshot, &pods, &history.hash, now);
    let mut steps = placement::place(&view, snapshot.backoff);
    if steps.create.is_empty() && steps.delete.is_empty() {
        // Only a set at rest rolls on.
        steps = rolling::roll(&view);
    }
    let pauses = placement::pauses(&view, snapshot.backoff);
    push(steps, &history.hash, &mut actions);
    actions.extend(history::surplus(set, &history, &pods));
    let status = status::status(&view);
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::UpdateStatus(Box::new(status)));
    }
    Plan { actions, again_after: pauses.into_iter().chain(status::next_available(&view)).min() }
}

fn claimed<'a>(set: &DaemonSet, pods: &'a [Arc<PodDigest>], actions: &mut Vec<Action>) -> Vec<&'a Arc<PodDigest>> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let selector = LabelSelector::from(&spec.selector);
    let claimed = owners::claimed_by_meta(&set.metadata, pods, |pod| &pod.meta, |meta| selector.matches_projection(&meta.labels));
    actions.extend(claimed.adopted.into_iter().map(|Named { name, uid }| Action::AdoptPod { pod: name, uid }));
    actions.extend(claimed.released.into_iter().map(|Named { name, uid }| Action::ReleasePod { pod: name, uid }));
    claimed.ours
}

fn view<'a>(snapshot: &Snapshot<'a>, pods: &[&'a Arc<PodDigest>], hash: &'a str, now: Timestamp) -> View<'a> {
    let judge = Judge::new(snapshot.set, snapshot.compares_tolerations);
    let mut nodes = BTreeMap::new();
    let mut by_node: BTreeMap<&str, Vec<&Arc<PodDigest>>> = BTreeMap::new();
    for node in snapshot.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let eligibility = judge.judge(node);
        nodes.insert(name, eligibility);
        if eligibility == Eligibility::Wanted {
            by_node.insert(name, Vec::new());
        }
    }
    for pod in pods.iter().copied() {
        // One that ended and is being deleted waits for somebody else; its place is free.
        let over = pod.standing.is_deleted && pod.standing.is_finished();
        if let Some(node) = pod.target().filter(|_| !over) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    for pods in by_node.values_mut() {
        pods.sort_by_key(|pod| (!pod.standing.is_assigned, pod.standing.created, pod.meta.name.clone()));
    }
    View { set: snapshot.set, hash, nodes, pods: by_node, now }
}

fn push(steps: Steps<'_>, hash: &str, actions: &mut Vec<Action>) {
    let nodes: Vec<String> = steps.create.into_iter().take(BURST).map(str::to_owned).collect();
    if !nodes.is_empty() {
        actions.push(Action::CreatePods { nodes, hash: hash.to_owned() });
    }
    for (pod, why) in steps.delete.into_iter().take(BURST) {
        let Named { name, uid } = Named::by_meta(&pod.meta);
        actions.push(Action::DeletePod { pod: name, uid, why });
    }
}

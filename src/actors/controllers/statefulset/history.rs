//! ControllerRevisions of a StatefulSet: the one its pods are at, and the one they shall come to. Pure.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use troupe_api::meta::LabelSelector;

use super::{
    member::MemberDigest,
    model::{Action, History, Template},
};
use crate::controllers::{
    owners::{Claim, claim},
    revisions,
};

/// Carries the hash of a revision's template.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// Sorts the revisions. A template that is not among them gets one; an older one that is wanted again becomes the newest.
pub fn arrange(set: &StatefulSet, revisions: &[Arc<ControllerRevision>], actions: &mut Vec<Action>) -> History {
    let mut sorted = claimed(set, revisions, actions);
    sorted.sort_by_key(|revision| {
        (revision.revision, revision.metadata.creation_timestamp.as_ref().map(|time| time.0), revision.metadata.name.clone())
    });
    let wanted = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let next = sorted.last().map_or(1, |newest| newest.revision.saturating_add(1));
    let known = sorted.iter().rfind(|revision| revisions::template(revision).as_ref() == Some(&wanted)).cloned();
    let update = match known {
        Some(known) => {
            if sorted.last().is_some_and(|newest| newest.metadata.name != known.metadata.name) {
                actions.push(Action::UpdateRevision(Box::new(ControllerRevision { revision: next, ..(*known).clone() })));
            }
            name(&known)
        }
        None => {
            let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
            let made = revisions::new(set, &wanted, HASH_LABEL, next, Some(collisions));
            let name = name(&made);
            actions.push(Action::CreateRevision(Box::new(made)));
            name
        }
    };
    let update = Arc::new(Template { revision: update, template: wanted });
    let current = set.status.as_ref().and_then(|status| status.current_revision.as_ref());
    let current = sorted.iter().find(|revision| Some(&name(revision)) == current);
    let current = current.and_then(|current| Some(Arc::new(Template { revision: name(current), template: revisions::template(current)? })));
    History { current: current.unwrap_or_else(|| update.clone()), update, revisions: sorted }
}

fn claimed(set: &StatefulSet, revisions: &[Arc<ControllerRevision>], actions: &mut Vec<Action>) -> Vec<Arc<ControllerRevision>> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let selector = LabelSelector::from(&spec.selector);
    let mut ours = Vec::new();
    for revision in revisions.iter().filter(|revision| revision.metadata.deletion_timestamp.is_none()) {
        match claim(&set.metadata, &revision.metadata, &selector) {
            // One that no longer matches stays ours: nobody else could use it.
            Claim::Owned | Claim::Release => ours.push(revision.clone()),
            Claim::Adopt => {
                let uid = revision.metadata.uid.clone().unwrap_or_default();
                actions.push(Action::AdoptRevision { name: name(revision), uid });
                ours.push(revision.clone());
            }
            Claim::Ignore => {}
        }
    }
    ours
}

/// Revisions beyond `revisionHistoryLimit` that neither a pod nor the set, by its status, is at, oldest first.
pub fn surplus(set: &StatefulSet, history: &History, status: &StatefulSetStatus, pods: &[&MemberDigest]) -> Vec<Action> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let of_pods: HashSet<&str> = pods.iter().map(|pod| pod.revision()).collect();
    let is_live = |revision: &ControllerRevision| {
        let name = name(revision);
        of_pods.contains(name.as_str()) || [&status.current_revision, &status.update_revision].contains(&&Some(name))
    };
    let unused: Vec<_> = history.revisions.iter().filter(|revision| !is_live(revision)).collect();
    let count = unused.len().saturating_sub(limit);
    let doomed = unused.into_iter().take(count);
    doomed.map(|revision| Action::DeleteRevision { name: name(revision), uid: revision.metadata.uid.clone().unwrap_or_default() }).collect()
}

fn name(revision: &ControllerRevision) -> String {
    revision.metadata.name.clone().unwrap_or_default()
}

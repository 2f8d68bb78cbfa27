//! ControllerRevisions of a DaemonSet: one for each template it had, for rolling back. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{ControllerRevision, DaemonSet},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::meta::LabelSelector;

use super::{model::Action, template::HASH_LABEL};
use crate::controllers::{
    owners::{self, Named},
    pod_digest::PodDigest,
    revisions,
};

/// The revision of the current template, and those of earlier ones.
pub struct History {
    /// The hash label that pods of the current template carry.
    pub hash: String,
    /// Earlier revisions, oldest first.
    old: Vec<Arc<ControllerRevision>>,
}

/// Sorts the revisions and plans what is wrong with them: the current one is missing, doubled or has a low number.
pub fn arrange(set: &DaemonSet, revisions: &[Arc<ControllerRevision>], pods: &[&Arc<PodDigest>], actions: &mut Vec<Action>) -> History {
    let (mut current, mut old) = (Vec::new(), Vec::new());
    for revision in claimed(set, revisions, actions) {
        if records_template_of(revision, set) { current.push(revision.clone()) } else { old.push(revision.clone()) }
    }
    old.sort_by_key(|revision| (revision.revision, revision.metadata.name.clone()));
    current.sort_by_key(|revision| (revision.revision, revision.metadata.name.clone()));
    let number = old.last().map_or(0, |newest| newest.revision).saturating_add(1);
    let Some(kept) = current.pop() else {
        let made = new_revision(set, number);
        let hash = hash_label(&made);
        actions.push(Action::CreateRevision(Box::new(made)));
        return History { hash, old };
    };
    let hash = hash_label(&kept);
    for double in current {
        let doubled = hash_label(&double);
        let of_double = pods.iter().filter(|pod| pod.meta.labels.get(HASH_LABEL) == Some(doubled.as_str()) && !pod.standing.is_deleted);
        let relabel = |Named { name, uid }| Action::RelabelPod { pod: name, uid, hash: hash.clone() };
        actions.extend(of_double.map(|pod| relabel(Named::by_meta(&pod.meta))));
        actions.push(Action::DeleteRevision { name: name(&double.metadata), uid: uid(&double.metadata) });
    }
    if kept.revision < number || label(&kept.metadata).is_none() {
        let mut updated = (*kept).clone();
        updated.revision = updated.revision.max(number);
        updated.metadata.labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
        actions.push(Action::UpdateRevision(Box::new(updated)));
    }
    History { hash, old }
}

fn claimed<'a>(set: &DaemonSet, revisions: &'a [Arc<ControllerRevision>], actions: &mut Vec<Action>) -> Vec<&'a Arc<ControllerRevision>> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let selector = LabelSelector::from(&spec.selector);
    let living = revisions.iter().filter(|revision| revision.metadata.deletion_timestamp.is_none());
    let claimed = owners::claimed(&set.metadata, living, |revision| selector.selects(&revision.metadata));
    actions.extend(claimed.adopted.into_iter().map(|Named { name, uid }| Action::AdoptRevision { name, uid }));
    actions.extend(claimed.released.into_iter().map(|Named { name, uid }| Action::ReleaseRevision { name, uid }));
    claimed.ours
}

/// Earlier revisions beyond `revisionHistoryLimit` that no pod was made from, oldest first.
pub fn surplus(set: &DaemonSet, history: &History, pods: &[&Arc<PodDigest>]) -> Vec<Action> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let count = history.old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    let is_used = |revision: &ControllerRevision| {
        let hash = label(&revision.metadata).map(String::as_str);
        hash.is_some() && pods.iter().any(|pod| pod.target().is_some() && pod.meta.labels.get(HASH_LABEL) == hash)
    };
    let unused = history.old.iter().filter(|revision| !is_used(revision)).take(count);
    unused.map(|revision| Action::DeleteRevision { name: name(&revision.metadata), uid: uid(&revision.metadata) }).collect()
}

fn new_revision(set: &DaemonSet, number: i64) -> ControllerRevision {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    revisions::new(set, &template, HASH_LABEL, number, set.status.as_ref().and_then(|status| status.collision_count))
}

/// Whether the revision records the set's current template.
fn records_template_of(revision: &ControllerRevision, set: &DaemonSet) -> bool {
    let recorded = revisions::template(revision);
    recorded.is_some() && recorded.as_ref() == set.spec.as_ref().map(|spec| &spec.template)
}

/// The hash a revision stands for: its label, or its name where an old one has none.
fn hash_label(revision: &ControllerRevision) -> String {
    label(&revision.metadata).cloned().unwrap_or_else(|| name(&revision.metadata))
}

fn label(meta: &ObjectMeta) -> Option<&String> {
    meta.labels.as_ref()?.get(HASH_LABEL)
}

fn name(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

fn uid(meta: &ObjectMeta) -> String {
    meta.uid.clone().unwrap_or_default()
}

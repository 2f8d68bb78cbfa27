//! Revisions: numbering ReplicaSets, carrying annotations over, and removing those that no rollback needs.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::model::{Sets, existing, max_surge, wanted};

/// The revision of a Deployment or ReplicaSet.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMAL: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of the Deployment that its ReplicaSets do not take over.
const NOT_COPIED: [&str; 6] =
    ["kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAXIMAL, "deprecated.deployment.rollback.to"];

/// The revision annotation of a ReplicaSet, 0 where it has none.
pub fn revision(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn annotation<'a>(set: &'a ReplicaSet, name: &str) -> Option<&'a String> {
    set.metadata.annotations.as_ref()?.get(name)
}

/// The desired-replicas annotation: the Deployment's size when the set was last scaled.
pub fn desired_replicas(set: &ReplicaSet) -> Option<i32> {
    annotation(set, DESIRED)?.parse().ok()
}

/// The max-replicas annotation.
pub fn max_replicas(set: &ReplicaSet) -> Option<i32> {
    annotation(set, MAXIMAL)?.parse().ok()
}

/// The revision that the set of the current template has or gets: one past the newest old one.
pub fn revision_of_new(sets: &Sets) -> String {
    let newest_old = sets.old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let own = sets.new.as_ref().map_or(0, |set| revision(set));
    own.max(newest_old.saturating_add(1)).to_string()
}

/// Gives the new ReplicaSet its revision and the Deployment's annotations.
pub fn annotate_new(set: &mut ReplicaSet, deployment: &Deployment, revision_text: &str) {
    let before = revision(set);
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    if before != 0 && before.to_string() != revision_text {
        append_history(annotations, before);
    }
    annotations.insert(REVISION.into(), revision_text.to_owned());
}

/// A set that is used again after a rollback remembers the revisions it had.
fn append_history(annotations: &mut BTreeMap<String, String>, before: i64) {
    let mut revisions: Vec<String> = annotations.get(REVISION_HISTORY).map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default();
    revisions.retain(|revision| *revision != before.to_string() && !revision.is_empty());
    revisions.push(before.to_string());
    annotations.insert(REVISION_HISTORY.into(), revisions.join(","));
}

/// Notes the Deployment's size, from which proportional scaling starts.
pub fn annotate_size(set: &mut ReplicaSet, deployment: &Deployment) {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.into(), replicas.to_string());
    annotations.insert(MAXIMAL.into(), replicas.saturating_add(max_surge(deployment)).to_string());
}

/// Old, empty sets beyond `revisionHistoryLimit`, oldest first.
pub fn surplus<'a>(deployment: &Deployment, sets: &'a Sets) -> impl Iterator<Item = &'a Arc<ReplicaSet>> {
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let limit = usize::try_from(limit).unwrap_or(0);
    let observed = |set: &&&Arc<ReplicaSet>| set.status.as_ref().and_then(|status| status.observed_generation) >= set.metadata.generation;
    let idle = |set: &&&Arc<ReplicaSet>| wanted(set) == 0 && existing(set) == 0 && set.metadata.deletion_timestamp.is_none();
    let mut cleanable: Vec<&Arc<ReplicaSet>> = Vec::new();
    for set in &sets.old {
        if idle(&&set) && observed(&&set) {
            cleanable.push(set);
        }
    }
    cleanable.sort_by_key(|set| revision(set));
    let kept = limit.saturating_sub(sets.old.len() - cleanable.len());
    let count = cleanable.len().saturating_sub(kept);
    cleanable.into_iter().take(count)
}

//! What a Deployment needs: its ReplicaSets made, scaled and cleaned up, and its status. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use troupe_api::meta::LabelSelector;

use super::{
    history::{self, REVISION},
    model::{Sets, existing, is_recreated, wanted},
    rolling,
    status::{self, Estimate},
    template::{HASH_LABEL, template_hash},
};
use crate::controllers::owners::{self, Named, controller_reference};

/// One step. Steps are applied in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Adopt {
        set: String,
        uid: String,
    },
    Release {
        set: String,
        uid: String,
    },
    /// Makes the ReplicaSet of the current template.
    CreateReplicaSet(Box<ReplicaSet>),
    /// Writes replicas and annotations of a ReplicaSet.
    UpdateReplicaSet(Box<ReplicaSet>),
    DeleteReplicaSet {
        name: String,
        uid: String,
    },
    /// Writes annotations of the Deployment (its revision).
    Annotate {
        revision: String,
    },
    /// The hash of the template collided with another ReplicaSet: count it, so that the next hash differs.
    UpdateStatus(Box<DeploymentStatus>),
}

/// What to do now, and when to look again although nothing changes (the progress deadline).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub again_after: Option<std::time::Duration>,
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub deployment: &'a Deployment,
    /// ReplicaSets of the namespace that the Deployment owns or could own.
    pub sets: &'a [Arc<ReplicaSet>],
    /// Whether any pod of an old ReplicaSet still exists (Recreate waits for them).
    pub old_pods_exist: bool,
}

/// Plans one step of the Deployment's way to its spec.
pub fn plan(snapshot: Snapshot<'_>, now: Timestamp) -> Plan {
    let deployment = snapshot.deployment;
    let Some(spec) = &deployment.spec else { return Plan::default() };
    let selector = LabelSelector::from(&spec.selector);
    let mut plan = Plan::default();
    let claimed = owners::claimed(&deployment.metadata, snapshot.sets, |set| selector.selects(&set.metadata));
    plan.actions.extend(claimed.adopted.into_iter().map(|Named { name, uid }| Action::Adopt { set: name, uid }));
    plan.actions.extend(claimed.released.into_iter().map(|Named { name, uid }| Action::Release { set: name, uid }));
    // Owners have to settle first: adopted sets show up in the next plan.
    if !plan.actions.is_empty() {
        return plan;
    }
    let mut owned: Vec<Arc<ReplicaSet>> = claimed.ours.into_iter().cloned().collect();
    owned.sort_by_key(|set| (set.metadata.creation_timestamp.clone().map(|time| time.0), set.metadata.name.clone()));
    let sets = Sets::of(deployment, &owned);
    let deleted = deployment.metadata.deletion_timestamp.is_some();
    if !deleted {
        plan.actions = steps(deployment, &sets, snapshot.old_pods_exist);
    }
    let makes_one = plan.actions.iter().any(|action| matches!(action, Action::CreateReplicaSet(_)));
    let estimate = match spec.paused {
        _ if deleted => Estimate::None,
        Some(true) => Estimate::Paused,
        _ if makes_one => Estimate::Created,
        _ if rolling::is_resized(deployment, &sets) => Estimate::None,
        _ => Estimate::Progress,
    };
    finish(plan, deployment, &sets, estimate, now)
}

fn finish(mut plan: Plan, deployment: &Deployment, sets: &Sets, estimate: Estimate, now: Timestamp) -> Plan {
    let status = status::compute(deployment, sets, estimate, now);
    // While it is scaled, or goes, its progress is not judged: no deadline is waited for.
    plan.again_after = status::next_look(deployment, &status, now).filter(|_| estimate != Estimate::None);
    if deployment.status.as_ref() != Some(&status) {
        plan.actions.push(Action::UpdateStatus(Box::new(status)));
    }
    plan
}

fn steps(deployment: &Deployment, sets: &Sets, old_pods_exist: bool) -> Vec<Action> {
    let Some(spec) = &deployment.spec else { return Vec::new() };
    let revision = history::revision_of_new(sets);
    if spec.paused == Some(true) {
        let mut actions = with_annotations(deployment, sets, &revision, rolling::resized(deployment, sets));
        if actions.is_empty() {
            actions = cleaned_up(deployment, sets);
        }
        return actions;
    }
    // Scaling goes before rolling: also where both were asked for at once.
    if rolling::is_resized(deployment, sets) {
        return with_annotations(deployment, sets, &revision, rolling::resized(deployment, sets));
    }
    let recreate = is_recreated(deployment);
    let old_pods_exist = old_pods_exist || sets.old.iter().any(|set| existing(set) > 0);
    let mut actions = Vec::new();
    match &sets.new {
        None if recreate && (old_pods_exist || sets.old.iter().any(|set| wanted(set) > 0)) => return scale_all(&sets.old, 0),
        None => {
            let replicas = if recreate { spec.replicas.unwrap_or(1) } else { rolling::initial_new_replicas(deployment, sets) };
            actions.push(Action::CreateReplicaSet(Box::new(new_replica_set(deployment, sets, replicas, &revision))));
            actions.extend(annotate_deployment(deployment, &revision));
            return actions;
        }
        Some(_) => {}
    }
    let targets = if recreate { recreate_targets(deployment, sets, old_pods_exist) } else { rolling::targets(deployment, sets) };
    actions.extend(with_annotations(deployment, sets, &revision, targets));
    if actions.is_empty() && status::is_complete(deployment, sets) {
        actions = cleaned_up(deployment, sets);
    }
    actions
}

/// Deletes the sets that no rollback needs.
fn cleaned_up(deployment: &Deployment, sets: &Sets) -> Vec<Action> {
    let doomed = history::surplus(deployment, sets).map(|set| Action::DeleteReplicaSet {
        name: set.metadata.name.clone().unwrap_or_default(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
    });
    doomed.collect()
}

/// Recreate: first the old sets go to 0, and when their pods are gone the new one comes up.
fn recreate_targets(deployment: &Deployment, sets: &Sets, old_pods_exist: bool) -> Vec<(Arc<ReplicaSet>, i32)> {
    let busy: Vec<_> = sets.old.iter().filter(|set| wanted(set) > 0).map(|set| (set.clone(), 0)).collect();
    if !busy.is_empty() || old_pods_exist {
        return busy;
    }
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    sets.new.iter().map(|set| (set.clone(), replicas)).collect()
}

fn scale_all(sets: &[Arc<ReplicaSet>], replicas: i32) -> Vec<Action> {
    let busy = sets.iter().filter(|set| wanted(set) != replicas);
    busy.map(|set| Action::UpdateReplicaSet(Box::new(scaled(set, replicas)))).collect()
}

fn scaled(set: &ReplicaSet, replicas: i32) -> ReplicaSet {
    let mut set = set.clone();
    set.spec.get_or_insert_default().replicas = Some(replicas);
    set
}

/// Turns target sizes into updates, and brings annotations (revision, desired and maximal replicas) up to date.
fn with_annotations(deployment: &Deployment, sets: &Sets, revision: &str, targets: Vec<(Arc<ReplicaSet>, i32)>) -> Vec<Action> {
    let mut actions = Vec::new();
    if sets.new.is_some() {
        actions.extend(annotate_deployment(deployment, revision));
    }
    for set in sets.all() {
        let target = targets.iter().find(|(other, _)| Arc::ptr_eq(other, set)).map_or_else(|| wanted(set), |(_, replicas)| *replicas);
        let is_new = sets.new.as_ref().is_some_and(|new| Arc::ptr_eq(new, set));
        let mut updated = scaled(set, target);
        if is_new {
            history::annotate_new(&mut updated, deployment, revision);
            let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
            updated.spec.get_or_insert_default().min_ready_seconds = min_ready;
        }
        if is_new || target > 0 {
            history::annotate_size(&mut updated, deployment);
        }
        if updated != **set {
            actions.push(Action::UpdateReplicaSet(Box::new(updated)));
        }
    }
    actions
}

fn annotate_deployment(deployment: &Deployment, revision: &str) -> Option<Action> {
    let current = deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    (current.map(String::as_str) != Some(revision)).then(|| Action::Annotate { revision: revision.to_owned() })
}

/// The ReplicaSet of the current template.
fn new_replica_set(deployment: &Deployment, sets: &Sets, replicas: i32, revision: &str) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let mut set = ReplicaSet::default();
    set.metadata.name = Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default()));
    set.metadata.namespace = deployment.metadata.namespace.clone();
    set.metadata.labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    set.metadata.owner_references = Some(vec![controller_reference(deployment)]);
    let body = set.spec.get_or_insert_default();
    body.replicas = Some(replicas);
    body.min_ready_seconds = spec.min_ready_seconds;
    body.selector = selector;
    body.template = Some(template);
    history::annotate_new(&mut set, deployment, revision);
    history::annotate_size(&mut set, deployment);
    debug_assert!(sets.new.is_none(), "a set of this template exists");
    set
}

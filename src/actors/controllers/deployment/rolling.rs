//! Sizes during a rolling update, and proportional scaling in its middle. Pure arithmetic.

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::{
    history,
    model::{Sets, available, is_recreated, lasting, max_surge, max_unavailable, replicas, sum, wanted},
};

/// The size that a newly made ReplicaSet begins with.
pub fn initial_new_replicas(deployment: &Deployment, sets: &Sets) -> i32 {
    let total = sum(&sets.old, wanted);
    grown(deployment, 0, total)
}

/// The new set's size: up to the Deployment's, as far as surge allows (`NewRSNewReplicas`).
fn grown(deployment: &Deployment, own: i32, total: i32) -> i32 {
    let wanted = replicas(deployment);
    let room = wanted.saturating_add(max_surge(deployment)).saturating_sub(total);
    if room <= 0 { own } else { own.saturating_add(room.min(wanted.saturating_sub(own))) }
}

/// Target sizes of sets that should change in this step.
pub fn targets(deployment: &Deployment, sets: &Sets) -> Vec<(Arc<ReplicaSet>, i32)> {
    let Some(new) = &sets.new else { return Vec::new() };
    let total = sum(sets.all(), wanted);
    let (own, size) = (wanted(new), replicas(deployment));
    if own > size {
        return vec![(new.clone(), size)];
    }
    let target = grown(deployment, own, total);
    if target != own {
        return vec![(new.clone(), target)];
    }
    shrink_old(deployment, sets, new, total)
}

/// The Deployment's size changed since the active sets were last scaled.
pub fn is_resized(deployment: &Deployment, sets: &Sets) -> bool {
    let active = sets.all().filter(|set| wanted(set) > 0);
    active.into_iter().any(|set| history::desired_replicas(set).is_some_and(|desired| desired != replicas(deployment)))
}

/// Takes pods from old sets: broken ones first, then as many as availability allows. None while an old set has more available
/// pods than it should have: which of them will be left is not known before its status shows its size.
fn shrink_old(deployment: &Deployment, sets: &Sets, new: &ReplicaSet, total: i32) -> Vec<(Arc<ReplicaSet>, i32)> {
    let mut sizes: Vec<(Arc<ReplicaSet>, i32)> = sets.old.iter().filter(|set| wanted(set) > 0).map(|set| (set.clone(), wanted(set))).collect();
    if sizes.is_empty() || sizes.iter().any(|(set, size)| available(set) > *size) {
        return Vec::new();
    }
    let least_available = replicas(deployment).saturating_sub(max_unavailable(deployment));
    let new_unavailable = wanted(new).saturating_sub(lasting(new));
    let mut budget = total.saturating_sub(least_available).saturating_sub(new_unavailable);
    if budget <= 0 {
        return Vec::new();
    }
    for (set, size) in &mut sizes {
        let broken = size.saturating_sub(available(set)).min(budget);
        *size -= broken;
        budget -= broken;
    }
    let mut spare = sum(sets.all(), lasting).saturating_sub(least_available);
    for (_, size) in &mut sizes {
        let taken = (*size).min(spare).max(0);
        *size -= taken;
        spare -= taken;
    }
    sizes.retain(|(set, size)| *size != wanted(set));
    sizes
}

/// Sizes after the Deployment was scaled, or while it is paused: the only set with pods has all of them, of several each gets its share.
pub fn resized(deployment: &Deployment, sets: &Sets) -> Vec<(Arc<ReplicaSet>, i32)> {
    let active: Vec<&Arc<ReplicaSet>> = sets.all().filter(|set| wanted(set) > 0).collect();
    let size = replicas(deployment);
    let only = match active[..] {
        // The newest of the old ones, where none of the current template is made yet.
        [] => sets.new.as_ref().or(sets.old.last()),
        [only] => Some(only),
        _ if is_saturated(deployment, sets) => return sets.old.iter().filter(|set| wanted(set) > 0).map(|set| (set.clone(), 0)).collect(),
        _ if is_recreated(deployment) => return Vec::new(),
        _ => return proportional(deployment, &active),
    };
    only.filter(|set| wanted(set) != size).map(|set| (set.clone(), size)).into_iter().collect()
}

/// The set of the current template has all pods, and all of them are available.
fn is_saturated(deployment: &Deployment, sets: &Sets) -> bool {
    let size = replicas(deployment);
    sets.new.as_ref().is_some_and(|new| history::desired_replicas(new) == Some(size) && [wanted(new), available(new)] == [size; 2])
}

fn proportional(deployment: &Deployment, active: &[&Arc<ReplicaSet>]) -> Vec<(Arc<ReplicaSet>, i32)> {
    let size = replicas(deployment);
    let total = sum(active.iter().copied(), wanted);
    let allowed = if size > 0 { size.saturating_add(max_surge(deployment)) } else { 0 };
    let mut left = allowed.saturating_sub(total);
    // The largest sets come first; of equals the newest where the Deployment grows, else the oldest.
    let mut order = active.to_vec();
    order.sort_by_key(|set| (set.metadata.creation_timestamp.clone().map(|time| time.0), set.metadata.name.clone()));
    if left > 0 {
        order.reverse();
    }
    order.sort_by_key(|set| Reverse(wanted(set)));
    let change = left;
    let mut sizes: Vec<(Arc<ReplicaSet>, i32)> = Vec::new();
    for set in &order {
        let share = if left == 0 { 0 } else { share_of(set, deployment, change, left) };
        left = left.saturating_sub(share);
        sizes.push(((*set).clone(), wanted(set).saturating_add(share).max(0)));
    }
    // What rounding left over goes to the first set.
    if let Some((_, first)) = sizes.first_mut() {
        *first = first.saturating_add(left).max(0);
    }
    sizes.retain(|(set, size)| *size != wanted(set) || history::desired_replicas(set) != Some(replicas(deployment)));
    sizes
}

/// A set's part of the change, in proportion to its part of the Deployment before.
fn share_of(set: &ReplicaSet, deployment: &Deployment, change: i32, left: i32) -> i32 {
    let own = wanted(set);
    if replicas(deployment) == 0 {
        return own.saturating_neg().clamp(left.min(0), 0);
    }
    let after = replicas(deployment).saturating_add(max_surge(deployment));
    // Where somebody took the annotation away, the pods that there are tell what it said, more or less.
    let existing = || deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    let before = history::max_replicas(set).filter(|before| *before > 0).unwrap_or_else(existing);
    if before <= 0 {
        return 0;
    }
    let target = (f64::from(own) * f64::from(after) / f64::from(before)).round() as i32;
    let share = target.saturating_sub(own);
    if change > 0 { share.clamp(0, left) } else { share.clamp(left, 0) }
}

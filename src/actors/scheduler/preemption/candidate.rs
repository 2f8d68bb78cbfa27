//! A node where room can be made, and which of several to take.

use std::{
    borrow::Cow,
    cmp::{Ordering, Reverse},
    sync::Arc,
};

use crate::scheduler::{
    budget::{Budget, split_by_violation},
    framework::{Candidate, Filters},
    node_info::NodeInfo,
    placed_pod::PlacedPod,
    pod_info::PodInfo,
};

/// Which pods of a node have to go for a pod: as few and as unimportant ones as possible.
///
/// # Errors
/// Why it would not fit even without all less important ones.
pub fn select(pod: &PodInfo, node: &NodeInfo, filters: &mut Filters<'_>, budgets: &[Budget]) -> Result<Candidate, Vec<Cow<'static, str>>> {
    let mut less: Vec<Arc<PlacedPod>> = node.pods.values().filter(|other| other.priority < pod.priority()).cloned().collect();
    if less.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".into()]);
    }
    less.sort_by(|one, other| more_important_first(one, other));
    let mut emptier = node.clone();
    less.iter().for_each(|victim| filters.remove_pod(victim, &mut emptier));
    let answer = filters.ask_with_nominated(&emptier);
    let selected = match answer {
        Ok(()) => Ok(reprieve(filters, &mut emptier, &less, budgets)),
        Err((_, rejection)) => {
            less.iter().for_each(|victim| filters.add_pod(victim, &mut emptier));
            Err(rejection.reasons)
        }
    };
    let (victims, broken_budgets) = selected?;
    victims.iter().for_each(|victim| filters.add_pod(victim, &mut emptier));
    if victims.is_empty() {
        // Filters said no before, and yes with the same pods.
        return Err(vec![format!("expected at least one victim pod on node \"{}\"", node.name).into()]);
    }
    Ok(Candidate { node: node.name.clone(), victims, broken_budgets })
}

/// Lets pods back while the pod still fits, and returns those that cannot stay.
fn reprieve(filters: &mut Filters<'_>, node: &mut NodeInfo, less: &[Arc<PlacedPod>], budgets: &[Budget]) -> (Vec<Arc<PlacedPod>>, usize) {
    let (breaking, others) = split_by_violation(less.to_vec(), budgets);
    let (mut victims, mut broken) = (Vec::new(), 0);
    for (candidates, breaks) in [(breaking, true), (others, false)] {
        for other in candidates {
            filters.add_pod(&other, node);
            if filters.ask_with_nominated(node).is_err() {
                filters.remove_pod(&other, node);
                broken += usize::from(breaks);
                victims.push(other);
            }
        }
    }
    victims.sort_by(|one, other| more_important_first(one, other));
    (victims, broken)
}

/// The node where it hurts least: fewest broken budgets, then the least important of the most important victims, then the smallest sum
/// of priorities, then the fewest victims, then the youngest of the most important ones, then the first.
pub fn pick_one_node(candidates: &[Candidate]) -> Option<&Candidate> {
    let priorities = |candidate: &Candidate| {
        // Each counts as positive, so that many of negative priority are not better than few.
        let all = candidate.victims.iter().map(|victim| i64::from(victim.priority) + i64::from(i32::MAX) + 1);
        all.sum::<i64>()
    };
    let harm = |candidate: &Candidate| {
        let highest = candidate.victims.first().map_or(i32::MIN, |victim| victim.priority);
        (candidate.broken_budgets, highest, priorities(candidate), candidate.victims.len(), Reverse(eldest(candidate)))
    };
    candidates.iter().min_by_key(|candidate| harm(candidate))
}

/// When the eldest of the most important victims began; after all others if none has.
fn eldest(candidate: &Candidate) -> (bool, Option<jiff::Timestamp>) {
    let highest = candidate.victims.first().map(|victim| victim.priority);
    let most_important = candidate.victims.iter().filter(|victim| Some(victim.priority) == highest);
    let started = most_important.min_by(|one, other| earlier_first(one, other)).and_then(|victim| victim.started);
    (started.is_none(), started)
}

/// Whether a pod is more important than another: by priority, then by age.
fn more_important_first(one: &PlacedPod, other: &PlacedPod) -> Ordering {
    let by_priority = other.priority.cmp(&one.priority);
    by_priority.then_with(|| earlier_first(one, other)).then_with(|| one.key().cmp(other.key()))
}

/// A pod that has not begun is the youngest.
fn earlier_first(one: &PlacedPod, other: &PlacedPod) -> Ordering {
    match (one.started, other.started) {
        (Some(one), Some(other)) => one.cmp(&other),
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

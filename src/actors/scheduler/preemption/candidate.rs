//! A node where room can be made, and which of several to take.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::emptied::{ByPods, ByTaken, EmptiedNode};
use crate::scheduler::{
    budget::{Budget, violations},
    footprint::{Footprint, earlier_first},
    framework::{Candidate, DryRun, Filters, Reasons},
    node_info::NodeInfo,
    pod_info::PodInfo,
};

/// Places of the pods that have to go, in order, and how many of them disruption budgets would spare.
type Found = (Vec<usize>, usize);

/// Which pods of a node have to go for a pod: as few and as unimportant ones as possible.
///
/// # Errors
/// Why it would not fit even without all less important ones.
pub fn select(pod: &PodInfo, node: &NodeInfo, filters: &mut Filters<'_>, budgets: &[Budget]) -> Result<DryRun, Reasons> {
    select_from(pod, node, |less| {
        let by_taken = ByTaken::of(filters, node).map(|mut emptied| find_victims(&mut emptied, less, budgets));
        by_taken.unwrap_or_else(|| find_by_pods(filters, node, less, budgets))
    })
}

/// The same, with each pod put on a copy of the node.
///
/// # Errors
/// The same.
#[cfg(test)]
pub fn select_by_pods(pod: &PodInfo, node: &NodeInfo, filters: &mut Filters<'_>, budgets: &[Budget]) -> Result<DryRun, Reasons> {
    select_from(pod, node, |less| find_by_pods(filters, node, less, budgets))
}

/// `find` is asked which of the less important pods have to go.
fn select_from(pod: &PodInfo, node: &NodeInfo, find: impl FnOnce(&[Footprint]) -> Result<Found, Reasons>) -> Result<DryRun, Reasons> {
    let footprints = node.footprints();
    let more_important = footprints.partition_point(|other| other.priority >= pod.priority());
    let less = &footprints[more_important..];
    if less.is_empty() {
        return Err(Reasons::from_buf(["No preemption victims found for incoming pod".into()]));
    }
    let (mut victims, broken_budgets) = find(less)?;
    if victims.is_empty() {
        // Filters said no before, and yes with the same pods.
        return Err(Reasons::from_buf([format!("expected at least one victim pod on node \"{}\"", node.name).into()]));
    }
    victims.iter_mut().for_each(|at| *at += more_important);
    Ok(DryRun { node: node.name.clone(), footprints: footprints.clone(), victims, broken_budgets })
}

/// The same where it matters which pods there are. Filters are left as they were.
fn find_by_pods(filters: &mut Filters<'_>, node: &NodeInfo, less: &[Footprint], budgets: &[Budget]) -> Result<Found, Reasons> {
    let mut emptied = ByPods::new(filters, node);
    let found = find_victims(&mut emptied, less, budgets);
    match &found {
        Ok((victims, _)) => victims.iter().for_each(|at| emptied.add(&less[*at])),
        Err(_) => less.iter().for_each(|pod| emptied.add(pod)),
    }
    found
}

fn find_victims(node: &mut impl EmptiedNode, less: &[Footprint], budgets: &[Budget]) -> Result<Found, Reasons> {
    less.iter().for_each(|pod| node.remove(pod));
    node.ask()?;
    Ok(reprieve(node, less, budgets))
}

/// Lets pods back while the pod still fits, and returns those that cannot stay. Those whose removal would break a budget come first.
fn reprieve(node: &mut impl EmptiedNode, less: &[Footprint], budgets: &[Budget]) -> Found {
    let breaks = if budgets.is_empty() { Vec::new() } else { violations(less.iter().map(|pod| &*pod.pod), budgets) };
    let is_guarded = |at: usize| breaks.get(at).copied().unwrap_or(false);
    let mut victims = Vec::new();
    let guarded = (0..breaks.len()).filter(|at| is_guarded(*at));
    for at in guarded.chain((0..less.len()).filter(|at| !is_guarded(*at))) {
        node.add(&less[at]);
        if !node.still_fits() {
            node.remove(&less[at]);
            victims.push(at);
        }
    }
    let broken = victims.iter().filter(|at| is_guarded(**at)).count();
    victims.sort_unstable();
    (victims, broken)
}

/// How much it hurts: fewest broken budgets are best, then the least important of the most important victims, then the smallest sum of
/// priorities, then the fewest victims, then the youngest of the most important ones.
type Harm = (usize, i32, i64, usize, Reverse<(bool, Option<Timestamp>)>);

/// Victims by their priorities and when they began, the most important ones first.
fn harm(broken_budgets: usize, victims: impl Iterator<Item = (i32, Option<Timestamp>)> + Clone) -> Harm {
    let highest = victims.clone().next().map(|(priority, _)| priority);
    // Each counts as positive, so that many of negative priority are not better than few.
    let priorities: i64 = victims.clone().map(|(priority, _)| i64::from(priority) + i64::from(i32::MAX) + 1).sum();
    // When the eldest of the most important victims began; after all others if none has.
    let most_important = victims.clone().filter(|(priority, _)| Some(*priority) == highest).map(|(_, started)| started);
    let eldest = most_important.min_by(|one, other| earlier_first(*one, *other)).flatten();
    (broken_budgets, highest.unwrap_or(i32::MIN), priorities, victims.count(), Reverse((eldest.is_none(), eldest)))
}

/// The candidate that hurts least; of several the first.
pub fn pick_one_node(candidates: &[Candidate]) -> Option<&Candidate> {
    let victims = |candidate: &Candidate| harm(candidate.broken_budgets, candidate.victims.iter().map(|pod| (pod.priority, pod.started)));
    candidates.iter().min_by_key(|candidate| victims(candidate))
}

/// The same of dry runs.
pub fn pick_one_run(runs: &[DryRun]) -> Option<&DryRun> {
    runs.iter().min_by_key(|run| harm(run.broken_budgets, run.victims().map(|victim| (victim.priority, victim.started))))
}

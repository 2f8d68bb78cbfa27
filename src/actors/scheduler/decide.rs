//! The decision: which node a pod goes to, or why none will do. Pure.

use std::{sync::Arc, time::Instant};

use super::{
    budget::Budget,
    framework::{Diagnosis, Failure, Filters, Nomination, Outcome, Preemption, Profile},
    metrics::{self, ExtensionPoint},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// What to do with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Bind { node: Arc<str> },
    Unschedulable(Unschedulable),
}

/// A pod that fits nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub message: String,
    /// Plugins that rejected some node: changes that may help them wake the pod.
    pub rejected_by: Vec<&'static str>,
    /// What becomes of the node that is kept free for it.
    pub nomination: Nomination,
    /// Pods to remove, so that it fits.
    pub preemption: Option<Preemption>,
}

/// What a decision is made on, beside the pod.
pub struct SchedulingContext<'a> {
    pub profile: &'a Profile,
    pub cluster: &'a Snapshot,
    /// Place of the node to look at first.
    pub start: usize,
    /// A number by chance, for where anything will do.
    pub chance: u64,
    /// Asks for all disruption budgets.
    pub budgets: &'a dyn Fn() -> Vec<Budget>,
}

/// Goes round the nodes, filters until enough are feasible, scores those, and takes the best; among equals the one that chance picks.
/// Where none is feasible, plugins may make room. Returns the decision and how many nodes were looked at.
pub fn decide(pod: &PodInfo, context: &SchedulingContext<'_>) -> (Decision, usize) {
    let (nodes, begun) = (context.cluster.nodes(), Instant::now());
    if nodes.is_empty() {
        let message = "no nodes available to schedule pods".into();
        let (rejected_by, nomination) = (Vec::new(), Nomination::Keep);
        return (Decision::Unschedulable(Unschedulable { message, rejected_by, nomination, preemption: None }), 0);
    }
    let (mut filters, only) = match context.profile.pre_filter(pod, context.cluster) {
        Ok(begun) => begun,
        Err(refusal) => {
            metrics::asked(ExtensionPoint::PreFilter, "UnschedulableAndUnresolvable", begun.elapsed());
            let diagnosis = Diagnosis::rejected(nodes.len(), refusal);
            let mut none = Filters::new(pod, context.cluster, Vec::new());
            return (after_failure(pod, context, &mut none, &diagnosis), 0);
        }
    };
    // What was decided last may not be in the pod's status yet.
    let nominated = context.cluster.nominations().node_of(pod.key()).map(|name| &**name).or_else(|| pod.nominated_node());
    let nominated = nominated.and_then(|name| context.cluster.node(name));
    if let Some(node) = nominated.filter(|node| filters.ask_with_nominated(node).is_ok()) {
        return (Decision::Bind { node: node.name.clone() }, 0);
    }
    let found = match &only.names {
        Some(names) => {
            let named: Vec<&Arc<NodeInfo>> = names.iter().filter_map(|name| context.cluster.node(name)).collect();
            find(&mut filters, (named.len(), |at| named[at]), context, Diagnosis::new(nodes.len(), &only))
        }
        None => find(&mut filters, (nodes.len(), |at| &nodes[at]), context, Diagnosis::new(nodes.len(), &only)),
    };
    // Clocks are for the metrics only: the decision does not depend on them.
    metrics::asked(ExtensionPoint::Filter, if found.feasible.is_empty() { "Unschedulable" } else { "Success" }, begun.elapsed());
    if found.feasible.is_empty() {
        return (after_failure(pod, context, &mut filters, &found.diagnosis), found.looked_at);
    }
    let begun = Instant::now();
    let node = best(pod, context, &found.feasible).name.clone();
    metrics::asked(ExtensionPoint::Score, "Success", begun.elapsed());
    (Decision::Bind { node }, found.looked_at)
}

struct Found<'a> {
    feasible: Vec<&'a NodeInfo>,
    diagnosis: Diagnosis,
    looked_at: usize,
}

/// Looks at so many nodes, which are told by their places.
fn find<'a>(
    filters: &mut Filters<'_>,
    (number, node): (usize, impl Fn(usize) -> &'a Arc<NodeInfo>),
    context: &SchedulingContext<'_>,
    mut diagnosis: Diagnosis,
) -> Found<'a> {
    let enough = context.profile.enough_feasible(number);
    let (mut feasible, mut looked_at) = (Vec::new(), 0);
    for offset in 0..number {
        let node: &NodeInfo = node((context.start + offset) % number);
        looked_at += 1;
        match filters.ask_with_nominated(node) {
            Ok(()) => feasible.push(node),
            Err(refusal) => diagnosis.add(node.at, refusal),
        }
        if feasible.len() >= enough {
            break;
        }
    }
    Found { feasible, diagnosis, looked_at }
}

fn after_failure<'a>(pod: &'a PodInfo, context: &SchedulingContext<'a>, filters: &mut Filters<'a>, diagnosis: &Diagnosis) -> Decision {
    let (budgets, chance) = (context.budgets, context.chance);
    let mut failure = Failure { pod, cluster: context.cluster, filters, diagnosis, budgets, chance };
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    for tried in context.profile.plugins().filter_map(|plugin| plugin.post_filter(&mut failure)) {
        outcome = outcome.or(tried);
        if outcome.preemption.is_some() {
            break;
        }
    }
    metrics::asked(ExtensionPoint::PostFilter, if outcome.preemption.is_some() { "Success" } else { "Unschedulable" }, begun.elapsed());
    Decision::Unschedulable(Unschedulable {
        message: diagnosis.message(&outcome.message),
        rejected_by: diagnosis.rejected_by(),
        nomination: outcome.nomination,
        preemption: outcome.preemption,
    })
}

fn best<'a>(pod: &PodInfo, context: &SchedulingContext<'_>, feasible: &[&'a NodeInfo]) -> &'a NodeInfo {
    if let [only] = feasible {
        return only;
    }
    let totals = scores(pod, context.profile, context.cluster, feasible);
    let highest = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<usize> = (0..feasible.len()).filter(|at| totals[*at] == highest).collect();
    feasible[winners[usize::try_from(context.chance).unwrap_or(usize::MAX) % winners.len()]]
}

/// The weighted sum of all plugins' scores, for each feasible node.
pub fn scores(pod: &PodInfo, profile: &Profile, cluster: &Snapshot, feasible: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0_i64; feasible.len()];
    for enabled in profile.plugins.iter().filter(|enabled| enabled.weight > 0) {
        let Some(scorer) = enabled.plugin.pre_score(pod, cluster, feasible) else { continue };
        let mut scores: Vec<i64> = feasible.iter().map(|node| scorer.score(node)).collect();
        scorer.normalize(feasible, &mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += enabled.weight * score;
        }
    }
    totals
}

//! The decision: which node a pod goes to, or why none will do. Pure.

use std::{sync::Arc, time::Instant};

use super::{
    budget::Budget,
    framework::{Diagnosis, DryRun, Failure, Filters, NodeNames, Nomination, Outcome, Point, Preemption, Profile, filter_error},
    metrics,
    node_info::NodeInfo,
    pod_info::PodInfo,
    ranking::{Ranking, Scores},
    snapshot::Snapshot,
};

/// What to do with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Bind {
        node: Arc<str>,
    },
    Unschedulable(Unschedulable),
    /// Nobody can tell: a plugin's filter failed, as this says.
    Failed(String),
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
    /// The nodes that were to choose from for that.
    pub candidates: Vec<DryRun>,
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
    /// Is told how the nodes that would do compared, where the pod gets one of them.
    pub ranked: &'a dyn Fn(Ranking),
}

/// Goes round the nodes, filters until enough are feasible, scores those, and takes the best; among equals the one that chance picks.
/// Where none is feasible, plugins may make room. Returns the decision and how many nodes were looked at.
pub fn decide(pod: &PodInfo, context: &SchedulingContext<'_>) -> (Decision, usize) {
    let (nodes, begun) = (context.cluster.nodes(), Instant::now());
    if nodes.is_empty() {
        let message = "no nodes available to schedule pods".into();
        let (rejected_by, nomination) = (Vec::new(), Nomination::Keep);
        return (Decision::Unschedulable(Unschedulable { message, rejected_by, nomination, preemption: None, candidates: Vec::new() }), 0);
    }
    let begun_filters = context.profile.pre_filter(pod, context.cluster);
    tell_pre_filters(context.profile, begun_filters.as_ref().err().map(|(plugin, _)| *plugin));
    let (mut filters, only) = match begun_filters {
        Ok(begun) => begun,
        Err(refusal) => {
            metrics::asked(&context.profile.name, Point::PreFilter, "UnschedulableAndUnresolvable", begun.elapsed());
            let diagnosis = Diagnosis::rejected(nodes.len(), refusal);
            let mut none = Filters::new(pod, context.cluster, Vec::new());
            return (after_failure(pod, context, &mut none, &diagnosis), 0);
        }
    };
    if let Some(node) = nominated_node(pod, context.cluster).filter(|node| filters.ask_with_nominated(node).is_ok()) {
        tell_filters(context.profile, &filters);
        (context.ranked)(Ranking::nominated(node));
        return (Decision::Bind { node: node.name.clone() }, 0);
    }
    let found = find_nodes(&mut filters, &only, context);
    // Clocks are for the metrics only: the decision does not depend on them.
    metrics::asked(&context.profile.name, Point::Filter, found.result(), begun.elapsed());
    if let Some(why) = found.failed {
        return (Decision::Failed(why), found.looked_at);
    }
    if found.feasible.is_empty() {
        return (after_failure(pod, context, &mut filters, &found.diagnosis), found.looked_at);
    }
    let begun = Instant::now();
    let node = best(pod, context, &found.feasible, found.looked_at).name.clone();
    metrics::asked(&context.profile.name, Point::Score, "Success", begun.elapsed());
    (Decision::Bind { node }, found.looked_at)
}

/// The node that is kept free for a pod. What was decided last may not be in the pod's status yet.
pub fn nominated_node<'a>(pod: &PodInfo, cluster: &'a Snapshot) -> Option<&'a Arc<NodeInfo>> {
    let name = cluster.nominations().node_of(pod.key()).map(|name| &**name).or_else(|| pod.nominated_node())?;
    cluster.node(name)
}

/// What was found.
pub struct Found<'a> {
    pub feasible: Vec<&'a NodeInfo>,
    pub diagnosis: Diagnosis,
    pub looked_at: usize,
    /// What went wrong; nothing else counts then.
    pub failed: Option<String>,
}

impl Found<'_> {
    /// In the words of the metrics.
    fn result(&self) -> &'static str {
        match self {
            Found { failed: Some(_), .. } => "Error",
            found if found.feasible.is_empty() => "Unschedulable",
            _ => "Success",
        }
    }
}

/// Goes round the nodes that can do.
pub fn find_nodes<'a>(filters: &mut Filters<'_>, only: &NodeNames, context: &SchedulingContext<'a>) -> Found<'a> {
    let nodes = context.cluster.nodes();
    let diagnosis = Diagnosis::new(nodes.len(), only);
    if only.names.is_none() {
        filters.note_nominated();
    }
    let found = match &only.names {
        Some(names) => {
            let named: Vec<&Arc<NodeInfo>> = names.iter().filter_map(|name| context.cluster.node(name)).collect();
            find(filters, (named.len(), |at| named[at]), context, diagnosis)
        }
        None => find(filters, (nodes.len(), |at| &nodes[at]), context, diagnosis),
    };
    tell_filters(context.profile, filters);
    found
}

/// Tells that plugins were asked before all nodes, up to the one that said that none will do.
fn tell_pre_filters(profile: &Profile, refused_by: Option<&str>) {
    for plugin in profile.at(Point::PreFilter) {
        metrics::evaluated(plugin.name(), Point::PreFilter, &profile.name, 1);
        if Some(plugin.name()) == refused_by {
            break;
        }
    }
}

/// Tells how often plugins were asked about nodes.
fn tell_filters(profile: &Profile, filters: &Filters<'_>) {
    filters.take_asked().for_each(|(plugin, times)| metrics::evaluated(plugin, Point::Filter, &profile.name, times));
}

/// Looks at so many nodes, which are told by their places.
fn find<'a>(
    filters: &mut Filters<'_>,
    (number, node): (usize, impl Fn(usize) -> &'a Arc<NodeInfo>),
    context: &SchedulingContext<'_>,
    mut diagnosis: Diagnosis,
) -> Found<'a> {
    let enough = context.profile.enough_feasible(number);
    let (mut feasible, mut looked_at, mut failed) = (Vec::new(), 0, None);
    for offset in 0..number {
        let node: &NodeInfo = node((context.start + offset) % number);
        looked_at += 1;
        match filters.ask_with_nominated(node) {
            Ok(()) => feasible.push(node),
            // No other node is looked at: whether the pod would fit there makes no difference.
            Err((plugin, rejection)) if rejection.is_error => {
                failed = Some(filter_error(plugin, &rejection.reasons.join(", ")));
                break;
            }
            Err(refusal) => diagnosis.add(node.at, refusal),
        }
        if feasible.len() >= enough {
            break;
        }
    }
    Found { feasible, diagnosis, looked_at, failed }
}

/// What is done for a pod that fits nowhere.
pub fn after_failure<'a>(pod: &'a PodInfo, context: &SchedulingContext<'a>, filters: &mut Filters<'a>, diagnosis: &Diagnosis) -> Decision {
    let (budgets, chance) = (context.budgets, context.chance);
    let mut failure = Failure { pod, cluster: context.cluster, filters, diagnosis, budgets, chance };
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    for tried in context.profile.at(Point::PostFilter).filter_map(|plugin| plugin.post_filter(&mut failure)) {
        outcome = outcome.or(tried);
        if outcome.preemption.is_some() || outcome.is_final {
            break;
        }
    }
    tell_filters(context.profile, failure.filters);
    metrics::asked(&context.profile.name, Point::PostFilter, if outcome.preemption.is_some() { "Success" } else { "Unschedulable" }, begun.elapsed());
    Decision::Unschedulable(Unschedulable {
        message: diagnosis.message(&outcome.message),
        rejected_by: diagnosis.rejected_by(),
        nomination: outcome.nomination,
        preemption: outcome.preemption,
        candidates: outcome.candidates,
    })
}

fn best<'a>(pod: &PodInfo, context: &SchedulingContext<'_>, feasible: &[&'a NodeInfo], looked_at: usize) -> &'a NodeInfo {
    if let [only] = feasible {
        (context.ranked)(Ranking::only(only, looked_at));
        return only;
    }
    choose(feasible, &scores(pod, context.profile, context.cluster, feasible), looked_at, context)
}

/// The node with the highest total; among equals the one that chance picks.
pub fn choose<'a>(feasible: &[&'a NodeInfo], scores: &Scores, looked_at: usize, context: &SchedulingContext<'_>) -> &'a NodeInfo {
    let chosen = scores.highest(context.chance);
    (context.ranked)(scores.ranking(chosen, feasible, looked_at));
    feasible[chosen]
}

/// What all plugins give each feasible node, weighted.
pub fn scores(pod: &PodInfo, profile: &Profile, cluster: &Snapshot, feasible: &[&NodeInfo]) -> Scores {
    let mut all = Scores::of(feasible.len());
    for (plugin, weight) in profile.scoring() {
        metrics::evaluated(plugin.name(), Point::PreScore, &profile.name, 1);
        let Some(scorer) = plugin.pre_score(pod, cluster, feasible) else { continue };
        metrics::evaluated(plugin.name(), Point::Score, &profile.name, u64::try_from(feasible.len()).unwrap_or(u64::MAX));
        let mut scores: Vec<i64> = feasible.iter().map(|node| scorer.score(node)).collect();
        scorer.normalize(feasible, &mut scores);
        scores.iter_mut().for_each(|score| *score *= weight);
        all.add(plugin.name(), scores);
    }
    all
}

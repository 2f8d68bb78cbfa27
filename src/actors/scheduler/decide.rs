//! The decision: which node a pod goes to, or why none will do. Pure.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    framework::{Plugin, Rejection},
    metrics::{self, ExtensionPoint},
    node_info::{NodeInfo, PodInfo},
};

/// What to do with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Bind {
        node: Arc<str>,
    },
    Unschedulable {
        /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
        message: String,
        /// Plugins that rejected some node: changes that may help them wake the pod.
        rejected_by: Vec<&'static str>,
    },
}

/// How many feasible nodes are enough to choose from (upstream's adaptive `percentageOfNodesToScore`).
pub fn enough_feasible(nodes: usize) -> usize {
    const MINIMUM: usize = 100;
    if nodes < MINIMUM {
        return nodes;
    }
    let percent = (50_usize.saturating_sub(nodes / 125)).max(5);
    (nodes * percent / 100).max(MINIMUM)
}

/// Goes round `nodes` from `start`, filters until enough are feasible, scores those, and takes the best; among
/// equals the one `tie` picks. Returns the decision and how many nodes were looked at.
pub fn decide(plugins: &[Box<dyn Plugin>], pod: &PodInfo, nodes: &[Arc<NodeInfo>], start: usize, tie: u64) -> (Decision, usize) {
    let (enough, begun) = (enough_feasible(nodes.len()), Instant::now());
    let (mut feasible, mut rejections, mut looked_at) = (Vec::new(), Rejections::default(), 0);
    for offset in 0..nodes.len() {
        let node = &nodes[(start + offset) % nodes.len()];
        looked_at += 1;
        match filter(plugins, pod, node) {
            Ok(()) => feasible.push(node),
            Err((plugin, rejection)) => rejections.add(plugin, rejection),
        }
        if feasible.len() >= enough {
            break;
        }
    }
    // Clocks are for the metrics only: the decision does not depend on them.
    metrics::asked(ExtensionPoint::Filter, if feasible.is_empty() { "Unschedulable" } else { "Success" }, begun.elapsed());
    if feasible.is_empty() {
        return (rejections.into_decision(nodes.len()), looked_at);
    }
    let begun = Instant::now();
    let node = best(plugins, pod, &feasible, tie).name.clone();
    metrics::asked(ExtensionPoint::Score, "Success", begun.elapsed());
    (Decision::Bind { node }, looked_at)
}

fn filter(plugins: &[Box<dyn Plugin>], pod: &PodInfo, node: &NodeInfo) -> Result<(), (&'static str, Rejection)> {
    plugins.iter().try_for_each(|plugin| plugin.filter(pod, node).map_err(|rejection| (plugin.name(), rejection)))
}

fn best<'a>(plugins: &[Box<dyn Plugin>], pod: &PodInfo, feasible: &[&'a Arc<NodeInfo>], tie: u64) -> &'a Arc<NodeInfo> {
    if let [only] = feasible {
        return only;
    }
    let mut totals = vec![0_i64; feasible.len()];
    let mut scores = vec![0_i64; feasible.len()];
    for plugin in plugins.iter().filter(|plugin| plugin.weight() > 0) {
        for (score, node) in scores.iter_mut().zip(feasible) {
            *score = plugin.score(pod, node);
        }
        plugin.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += plugin.weight() * score;
        }
    }
    let highest = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<usize> = (0..feasible.len()).filter(|at| totals[*at] == highest).collect();
    feasible[winners[usize::try_from(tie).unwrap_or(usize::MAX) % winners.len()]]
}

/// Rejections counted by reason.
#[derive(Default)]
struct Rejections {
    by_reason: BTreeMap<Cow<'static, str>, usize>,
    plugins: Vec<&'static str>,
}

impl Rejections {
    fn add(&mut self, plugin: &'static str, rejection: Rejection) {
        for reason in rejection.reasons {
            *self.by_reason.entry(reason).or_default() += 1;
        }
        if !self.plugins.contains(&plugin) {
            self.plugins.push(plugin);
        }
    }

    fn into_decision(self, nodes: usize) -> Decision {
        if nodes == 0 {
            return Decision::Unschedulable { message: "no nodes available to schedule pods".into(), rejected_by: self.plugins };
        }
        let mut reasons: Vec<String> = self.by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        Decision::Unschedulable { message: format!("0/{nodes} nodes are available: {}.", reasons.join(", ")), rejected_by: self.plugins }
    }
}

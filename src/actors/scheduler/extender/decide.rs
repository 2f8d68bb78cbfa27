//! Decisions in two steps: which nodes the plugins leave, and, when the extenders have been asked about those, which one it is. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::Opinion;
use crate::scheduler::{
    decide::{Decision, SchedulingContext, after_failure, choose, decide, find_nodes, nominated_node, scores},
    framework::Rejection,
    node_info::NodeInfo,
    pod_info::PodInfo,
    queue::EXTENDER,
    ranking::Ranking,
};

/// What the first step comes to.
#[derive(Debug)]
pub enum Begun {
    /// There is nothing to ask about.
    Decided(Decision, usize),
    /// The extenders are to be asked about these nodes.
    Ask { nodes: Vec<Arc<Node>>, looked_at: usize, is_nominated: bool },
}

/// Finds feasible nodes. A node that is kept free for the pod is asked about alone, unless that was tried before.
pub fn begin(pod: &PodInfo, context: &SchedulingContext<'_>, without_nominated: bool) -> Begun {
    let Ok((mut filters, only)) = context.profile.pre_filter(pod, context.cluster) else { return decided(pod, context) };
    let nominated = nominated_node(pod, context.cluster).filter(|_| !without_nominated);
    if let Some(node) = nominated.filter(|node| filters.ask_with_nominated(node).is_ok()) {
        return Begun::Ask { nodes: vec![node.node.clone()], looked_at: 0, is_nominated: true };
    }
    let found = find_nodes(&mut filters, &only, context);
    if let Some(why) = found.failed {
        return Begun::Decided(Decision::Failed(why), found.looked_at);
    }
    if found.feasible.is_empty() {
        return decided(pod, context);
    }
    Begun::Ask { nodes: found.feasible.iter().map(|node| node.node.clone()).collect(), looked_at: found.looked_at, is_nominated: false }
}

fn decided(pod: &PodInfo, context: &SchedulingContext<'_>) -> Begun {
    let (decision, looked_at) = decide(pod, context);
    Begun::Decided(decision, looked_at)
}

/// Decides by what the extenders said, in the cluster as it is now: a node that will not do any more is out.
pub fn finish(pod: &PodInfo, context: &SchedulingContext<'_>, opinion: &Opinion) -> Decision {
    let Ok((mut filters, only)) = context.profile.pre_filter(pod, context.cluster) else { return decide(pod, context).0 };
    let mut found = find_nodes(&mut filters, &only, context);
    if let Some(why) = found.failed {
        return Decision::Failed(why);
    }
    let (left, out): (Vec<&NodeInfo>, Vec<&NodeInfo>) = found.feasible.iter().partition(|node| opinion.nodes.contains(&*node.name));
    for node in &out {
        match opinion.failed.get(&*node.name) {
            Some((why, unresolvable)) => {
                found.diagnosis.add(node.at, (EXTENDER, Rejection { unresolvable: *unresolvable, ..Rejection::resolvable(why.clone()) }));
            }
            // It came meanwhile, or the extender does not say why.
            None => found.diagnosis.mark(EXTENDER),
        }
    }
    match left[..] {
        [] => after_failure(pod, context, &mut filters, &found.diagnosis),
        [only] => {
            (context.ranked)(Ranking::only(only, found.looked_at));
            Decision::Bind { node: only.name.clone() }
        }
        _ => {
            let mut scores = scores(pod, context.profile, context.cluster, &left);
            scores.add(EXTENDER, left.iter().map(|node| opinion.scores.get(&*node.name).copied().unwrap_or(0)).collect());
            Decision::Bind { node: choose(&left, &scores, found.looked_at, context).name.clone() }
        }
    }
}

/// Whether the node that was kept free is still one for the pod, now that the extenders let it pass.
pub fn finish_nominated(pod: &PodInfo, context: &SchedulingContext<'_>, opinion: &Opinion) -> Option<Decision> {
    let name = opinion.nodes.iter().next()?;
    let node = context.cluster.node(name)?;
    let (mut filters, _) = context.profile.pre_filter(pod, context.cluster).ok()?;
    filters.ask_with_nominated(node).is_ok().then(|| {
        (context.ranked)(Ranking::nominated(node));
        Decision::Bind { node: node.name.clone() }
    })
}

//! Making room for a pod that fits nowhere, by removing less important ones (KEP-583, upstream's `DefaultPreemption`). Pure, but for
//! [`apply`].
//!
//! On each node from which removing pods could help all less important pods are thought away; if the pod fits then, as many of them as
//! possible are let back, those first whose removal would break a disruption budget. Of the nodes the one is taken where it hurts least.

pub mod apply;
mod candidate;
mod emptied;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

pub use self::candidate::select;
#[cfg(test)]
pub use self::candidate::select_by_pods;
use super::{
    framework::{Candidate, DryRun, Failure, Nomination, Outcome, Preemption, Victim, listed},
    placed_pod::PlacedPod,
};

/// How many of the nodes that could help are tried (`DefaultPreemptionArgs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// At least so many percent ...
    pub least_percentage: usize,
    /// ... and at least so many.
    pub least: usize,
}

impl Default for Tries {
    fn default() -> Self {
        Tries { least_percentage: 10, least: 100 }
    }
}

impl Tries {
    fn of(&self, nodes: usize) -> usize {
        (nodes * self.least_percentage / 100).max(self.least).min(nodes)
    }
}

/// Tries to make room for a pod.
pub fn preempt(failure: &mut Failure<'_, '_>, tries: &Tries) -> Outcome {
    if let Err(reason) = is_eligible(failure) {
        return Outcome::failed(reason, Nomination::Keep);
    }
    match candidates(failure, tries) {
        Ok(candidates) => {
            let preemption = candidate::pick_one_run(&candidates).map(|best| removal(&best.node, best.victims().map(|victim| &victim.pod)));
            let nomination = preemption.as_ref().map_or(Nomination::Keep, |preemption| Nomination::Set(preemption.node.clone()));
            Outcome { nomination, preemption, candidates, ..Outcome::default() }
        }
        Err(why) => Outcome::failed(&why, Nomination::Clear),
    }
}

/// Whom to remove, of several candidates.
pub fn choose(candidates: &[Candidate]) -> Option<Preemption> {
    candidate::pick_one_node(candidates).map(|best| removal(&best.node, best.victims.iter()))
}

fn removal<'a>(node: &Arc<str>, victims: impl Iterator<Item = &'a Arc<PlacedPod>>) -> Preemption {
    let victims =
        victims.map(|pod| Victim { key: pod.key().clone(), uid: pod.uid.clone(), generation: pod.generation, is_terminating: pod.is_terminating });
    Preemption { node: node.clone(), victims: victims.collect() }
}

/// Whether the pod may have others removed: not if its policy forbids it, and not while pods still leave that were removed for it.
fn is_eligible(failure: &Failure<'_, '_>) -> Result<(), &'static str> {
    let Failure { pod, cluster, diagnosis, .. } = failure;
    let policy = pod.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = cluster.nominations().node_of(pod.key()).map(|name| &**name).or_else(|| pod.nominated_node());
    let Some(node) = nominated.and_then(|name| cluster.node(name)) else { return Ok(()) };
    let could_help = diagnosis.resolvable.contains(&node.at);
    let leaving = |other: &Arc<PlacedPod>| other.priority < pod.priority() && other.is_preempted;
    if could_help && node.pods.values().any(leaving) {
        return Err("not eligible due to a terminating pod on the nominated node.");
    }
    Ok(())
}

/// The nodes where room can be made; enough of them to choose from.
///
/// # Errors
/// Why there is none, for each node.
fn candidates(failure: &mut Failure<'_, '_>, tries: &Tries) -> Result<Vec<DryRun>, String> {
    let places = &failure.diagnosis.resolvable;
    let enough = tries.of(places.len());
    let budgets = if places.is_empty() { Vec::new() } else { (failure.budgets)() };
    let offset = if places.is_empty() { 0 } else { usize::try_from(failure.chance).unwrap_or(usize::MAX) % places.len() };
    let (mut harmless, mut breaking) = (Vec::new(), Vec::new());
    let (mut reasons, mut tried) = (BTreeMap::<Cow<'static, str>, usize>::new(), 0);
    for step in 0..places.len() {
        let node = &failure.cluster.nodes()[places[(offset + step) % places.len()]];
        match candidate::select(failure.pod, node, failure.filters, &budgets) {
            Ok(candidate) if candidate.broken_budgets == 0 => harmless.push(candidate),
            Ok(candidate) => breaking.push(candidate),
            Err(why) => {
                tried += 1;
                why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
            }
        }
        if !harmless.is_empty() && harmless.len() + breaking.len() >= enough {
            break;
        }
    }
    harmless.append(&mut breaking);
    if harmless.is_empty() {
        let nodes = failure.diagnosis.nodes;
        let sentences = listed(&reasons, Some("Preemption is not helpful for scheduling"), nodes - tried);
        return Err(format!("0/{nodes} nodes are available:{sentences}"));
    }
    Ok(harmless)
}

#[cfg(test)]
mod tests;

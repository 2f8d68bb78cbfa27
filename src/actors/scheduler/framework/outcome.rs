//! What can be done for a pod that fits nowhere.

use std::sync::Arc;

use troupe_api::meta::ObjectKey;

use crate::scheduler::{footprint::Footprint, placed_pod::PlacedPod};

/// A pod that has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub generation: i64,
    /// It goes already.
    pub is_terminating: bool,
}

/// Pods to remove from a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preemption {
    pub node: Arc<str>,
    pub victims: Vec<Victim>,
}

/// Pods of a node without which a pod fits there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node: Arc<str>,
    /// The most important ones first; at least one.
    pub victims: Vec<Arc<PlacedPod>>,
    /// How many of them disruption budgets would spare.
    pub broken_budgets: usize,
}

/// What came of thinking less important pods away from a node: a [`Candidate`] that is not written out, since of hundreds most are not
/// taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    pub node: Arc<str>,
    /// All pods of the node, the most important ones first.
    pub footprints: Arc<[Footprint]>,
    /// Places of those that have to go, in order; at least one.
    pub victims: Vec<usize>,
    /// How many of them disruption budgets would spare.
    pub broken_budgets: usize,
}

impl DryRun {
    /// The pods that have to go, the most important ones first.
    pub fn victims(&self) -> impl Iterator<Item = &Footprint> + Clone {
        let footprints = &self.footprints;
        self.victims.iter().map(move |at| &footprints[*at])
    }

    pub fn candidate(&self) -> Candidate {
        let victims = self.victims().map(|victim| victim.pod.clone());
        Candidate { node: self.node.clone(), victims: victims.collect(), broken_budgets: self.broken_budgets }
    }
}

/// What becomes of a pod's nominated node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nomination {
    #[default]
    Keep,
    Clear,
    Set(Arc<str>),
}

/// What came of trying to make room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why it did not help; empty if it did.
    pub message: String,
    pub nomination: Nomination,
    pub preemption: Option<Preemption>,
    /// The nodes that were to choose from for that.
    pub candidates: Vec<DryRun>,
    /// No further plugin is asked.
    pub is_final: bool,
}

impl Outcome {
    /// After another plugin that did not help.
    pub fn or(self, next: Outcome) -> Outcome {
        let messages = [self.message, next.message.clone()];
        let message = if next.preemption.is_some() {
            next.message
        } else {
            messages.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
        };
        let nomination = if next.nomination == Nomination::Keep { self.nomination } else { next.nomination };
        Outcome { message, nomination, preemption: next.preemption, candidates: next.candidates, is_final: next.is_final }
    }

    /// It did not help, and why.
    pub fn failed(message: &str, nomination: Nomination) -> Self {
        Outcome { message: format!("preemption: {message}"), nomination, ..Outcome::default() }
    }
}

//! What a scheduler plugin is.

use std::borrow::Cow;

use super::node_info::{NodeInfo, PodInfo};

/// Why a node is no place for a pod, in the words of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Vec<Cow<'static, str>>,
    /// Removing pods from the node would not help.
    pub unresolvable: bool,
}

impl Rejection {
    /// Removing pods could help.
    pub fn resolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection { reasons: vec![reason.into()], unresolvable: false }
    }

    /// Removing pods would not help.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Rejection { reasons: vec![reason.into()], unresolvable: true }
    }
}

/// What changed in the cluster, for deciding which unschedulable pods to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClusterChange {
    NodeAdded,
    /// Allocatable, labels, taints or `unschedulable` of a node changed.
    NodeUpdated,
    /// An assigned pod went away or finished: resources and ports are free.
    PodRemoved,
    /// An assigned pod takes less than before.
    PodShrank,
    /// The pending pod itself changed.
    PodUpdated,
}

impl ClusterChange {
    /// As upstream's metrics name it.
    pub fn event(self) -> &'static str {
        match self {
            ClusterChange::NodeAdded => "NodeAdd",
            ClusterChange::NodeUpdated => "NodeUpdate",
            ClusterChange::PodRemoved => "AssignedPodDelete",
            ClusterChange::PodShrank => "AssignedPodUpdate",
            ClusterChange::PodUpdated => "UnscheduledPodUpdate",
        }
    }
}

/// A plugin. All methods are pure; the same inputs give the same answer.
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, such as `NodeResourcesFit`.
    fn name(&self) -> &'static str;

    /// Whether the pod can run on the node.
    fn filter(&self, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// How good a feasible node is. Any range; `normalize` brings all nodes' scores to 0..=100.
    fn score(&self, _pod: &PodInfo, _node: &NodeInfo) -> i64 {
        0
    }

    /// Brings the scores of all feasible nodes to 0..=100.
    fn normalize(&self, _scores: &mut [i64]) {}

    /// Weight of its score; 0 where the plugin scores nothing.
    fn weight(&self) -> i64 {
        0
    }

    /// Whether `change` may let a pod pass that this plugin rejected.
    fn may_help(&self, change: ClusterChange) -> bool;
}

/// Scales scores so that the largest is 100 (`helper.DefaultNormalizeScore`); `reverse` makes it the smallest.
pub fn normalize_to_largest(scores: &mut [i64], reverse: bool) {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if largest == 0 { 0 } else { *score * 100 / largest };
        *score = if reverse { 100 - scaled } else { scaled };
    }
}

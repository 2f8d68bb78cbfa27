//! Scoring nodes for one pod.

use crate::scheduler::node_info::NodeInfo;

/// Best score of a node.
pub const MAX_SCORE: i64 = 100;

/// Scores nodes for one pod.
pub trait NodeScorer {
    /// How good a feasible node is, in any range.
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all feasible nodes to 0..=100.
    fn normalize(&self, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}
}

/// Scales scores so that the largest is 100 (`helper.DefaultNormalizeScore`); `reverse` makes it the smallest.
pub fn normalize_to_largest(scores: &mut [i64], reverse: bool) {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if largest == 0 { 0 } else { *score * MAX_SCORE / largest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}

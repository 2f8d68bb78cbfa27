//! How good a node is by what would be used of it (`NodeResourcesFitArgs.scoringStrategy`).

use std::borrow::Cow;

use crate::scheduler::{
    demand::Demand,
    framework::{MAX_SCORE, NodeScorer},
    node_info::NodeInfo,
};

/// A resource with the weight of its part of the score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    pub name: Cow<'static, str>,
    pub weight: i64,
}

/// A point of a function of utilization (0..=100) to score (0..=10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapePoint {
    pub utilization: i64,
    pub score: i64,
}

/// What is liked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Empty nodes.
    #[default]
    LeastAllocated,
    /// Full nodes.
    MostAllocated,
    /// As a function says that is made of straight lines between points, which are given in order of utilization.
    RequestedToCapacityRatio(Vec<ShapePoint>),
}

/// A strategy and the resources that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoringStrategy {
    pub strategy: Strategy,
    pub resources: Vec<Weighted>,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        ScoringStrategy { strategy: Strategy::default(), resources: cpu_and_memory() }
    }
}

/// CPU and memory, each with weight 1.
pub fn cpu_and_memory() -> Vec<Weighted> {
    vec![Weighted { name: "cpu".into(), weight: 1 }, Weighted { name: "memory".into(), weight: 1 }]
}

/// Scores for one pod.
pub struct Scorer<'a> {
    scoring: &'a ScoringStrategy,
    demand: &'a Demand,
}

impl<'a> Scorer<'a> {
    pub fn new(scoring: &'a ScoringStrategy, demand: &'a Demand) -> Self {
        Scorer { scoring, demand }
    }

    /// What would be used of a resource, and what there is; containers that ask for nothing count as if they asked for a little.
    fn usage(&self, node: &NodeInfo, name: &str) -> (i64, i64) {
        let (used, wanted) = (&node.nonzero_requested, &self.demand.nonzero);
        match name {
            "cpu" => (used.cpu.saturating_add(wanted.cpu), node.allocatable.cpu),
            "memory" => (used.memory.saturating_add(wanted.memory), node.allocatable.memory),
            "ephemeral-storage" => (node.requested.ephemeral.saturating_add(self.demand.requests.ephemeral), node.allocatable.ephemeral),
            name => match self.demand.requests.scalar(name) {
                // Extended resources count only for pods that want some.
                0 => (0, 0),
                wanted => (node.requested.scalar(name).saturating_add(wanted), node.allocatable.scalar(name)),
            },
        }
    }
}

impl NodeScorer for Scorer<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let (mut sum, mut weights) = (0_i64, 0_i64);
        let ratio = matches!(self.scoring.strategy, Strategy::RequestedToCapacityRatio(_));
        for Weighted { name, weight } in &self.scoring.resources {
            let (used, capacity) = self.usage(node, name);
            if capacity == 0 {
                continue;
            }
            let score = score_of(&self.scoring.strategy, used, capacity);
            // A resource without any score takes no part in the mean of this strategy.
            if !ratio || score > 0 {
                sum += score * weight;
                weights += weight;
            }
        }
        match weights {
            0 => 0,
            _ if ratio => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}

fn score_of(strategy: &Strategy, used: i64, capacity: i64) -> i64 {
    match strategy {
        Strategy::LeastAllocated if used > capacity => 0,
        Strategy::LeastAllocated => percent(capacity.saturating_sub(used), capacity),
        Strategy::MostAllocated => percent(used.min(capacity), capacity),
        Strategy::RequestedToCapacityRatio(points) => {
            let utilization = if used > capacity { 100 } else { percent(used, capacity) };
            broken_line(points, utilization)
        }
    }
}

/// A part in hundredths; amounts may be as large as numbers are.
pub fn percent(part: i64, whole: i64) -> i64 {
    i64::try_from(i128::from(part) * 100 / i128::from(whole)).unwrap_or(i64::MAX)
}

/// The function's value in 0..=100; beyond its ends it stays as it is there (`helper.BuildBrokenLinearFunction`).
pub fn broken_line(points: &[ShapePoint], at: i64) -> i64 {
    const SCALE: i64 = MAX_SCORE / 10;
    let Some(next) = points.iter().position(|point| at <= point.utilization) else {
        return points.last().map_or(0, |last| last.score * SCALE);
    };
    let point = points[next];
    let Some(before) = next.checked_sub(1).map(|before| points[before]) else { return point.score * SCALE };
    let (rise, run) = ((point.score - before.score) * SCALE, point.utilization - before.utilization);
    before.score * SCALE + rise * (at - before.utilization) / run
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::scheduler::placed_pod::PlacedPod;

    fn score(strategy: Strategy, weights: (i64, i64)) -> i64 {
        let pod = |name: &str, cpu: &str, memory: &str| {
            let requests = json!({"cpu": cpu, "memory": memory, "example.com/gpu": "1"});
            let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
            PlacedPod::of(&serde_json::from_value(pod).expect("a pod"))
        };
        let allocatable = json!({"cpu": "4", "memory": "10000", "pods": "10"});
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": allocatable}});
        let mut node = NodeInfo::new(Arc::new(serde_json::from_value(node).expect("a node")), 0);
        node.add_pod(Arc::new(pod("there", "1", "2000")));
        let weighted = |name: &'static str, weight: i64| Weighted { name: name.into(), weight };
        // The node has none of the last resource: it does not count.
        let resources = vec![weighted("cpu", weights.0), weighted("memory", weights.1), weighted("example.com/gpu", 5)];
        let (scoring, wanted) = (ScoringStrategy { strategy, resources }, pod("wanted", "2", "3000"));
        Scorer::new(&scoring, &wanted.demand).score(&node)
    }

    #[test]
    fn each_strategy_likes_what_its_name_says() {
        // Three of four CPUs would be used, and half of the memory.
        assert_eq!(score(Strategy::LeastAllocated, (1, 1)), (25 + 50) / 2);
        assert_eq!(score(Strategy::LeastAllocated, (3, 1)), (3 * 25 + 50) / 4);
        assert_eq!(score(Strategy::MostAllocated, (1, 1)), (75 + 50) / 2);
        let line = |points: &[(i64, i64)]| {
            Strategy::RequestedToCapacityRatio(
                points.iter().map(|(utilization, score)| ShapePoint { utilization: *utilization, score: *score }).collect(),
            )
        };
        assert_eq!(score(line(&[(0, 0), (100, 10)]), (1, 1)), 63, "62.5, rounded");
        assert_eq!(score(line(&[(0, 10), (100, 0)]), (1, 1)), 38, "37.5, rounded");
        assert_eq!(score(line(&[(0, 0), (60, 0), (80, 10)]), (1, 1)), 75, "memory scores nothing, and takes no part in the mean");
    }
}

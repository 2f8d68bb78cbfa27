//! Nodes whose resources would be used to similar shares score higher.

use super::scoring::{Weighted, cpu_and_memory};
use crate::scheduler::{
    demand::Demand,
    framework::{MAX_SCORE, NodeScorer, Plugin, Point},
    node_info::NodeInfo,
    pod_info::PodInfo,
    resources::Resources,
    snapshot::Snapshot,
};

/// See the module.
pub struct NodeResourcesBalancedAllocation {
    /// Weights do not count.
    pub resources: Vec<Weighted>,
}

impl Default for NodeResourcesBalancedAllocation {
    fn default() -> Self {
        NodeResourcesBalancedAllocation { resources: cpu_and_memory() }
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        let names: Vec<&str> = self.resources.iter().map(|resource| &*resource.name).collect();
        // A pod that asks for nothing changes no balance.
        let asks = names.iter().any(|name| pod.demand().requests.amount(name) != 0);
        asks.then(|| Box::new(Balance { names, demand: pod.demand() }) as Box<dyn NodeScorer>)
    }
}

struct Balance<'a> {
    names: Vec<&'a str>,
    demand: &'a Demand,
}

impl NodeScorer for Balance<'_> {
    /// Upstream's formula: 75 where nothing changes, more where the pod evens the node out.
    fn score(&self, node: &NodeInfo) -> i64 {
        let (with, without) = (self.evenness(node, &self.demand.requests), self.evenness(node, &Resources::default()));
        MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
    }
}

impl Balance<'_> {
    /// 100 less the standard deviation of the used shares, in hundredths.
    fn evenness(&self, node: &NodeInfo, more: &Resources) -> i64 {
        let counts = |name: &&&str| {
            let is_standard = matches!(**name, "cpu" | "memory" | "ephemeral-storage");
            (is_standard || self.demand.requests.amount(name) != 0) && node.allocatable.amount(name) != 0
        };
        let share = |name: &&str| {
            let used = node.requested.amount(name).saturating_add(more.amount(name));
            (used as f64 / node.allocatable.amount(name) as f64).min(1.0)
        };
        let shares: Vec<f64> = self.names.iter().filter(counts).map(share).collect();
        let deviation = match shares[..] {
            [] | [_] => 0.0,
            [one, other] => ((one - other) / 2.0).abs(),
            _ => {
                let mean = shares.iter().sum::<f64>() / shares.len() as f64;
                (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64).sqrt()
            }
        };
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    }
}

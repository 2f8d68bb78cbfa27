//! NodeResourcesFit and NodeResourcesBalancedAllocation.

use std::borrow::Cow;

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    node_info::{NodeInfo, PodInfo},
};

/// What a pod asks for must be free on the node; emptier nodes score higher (LeastAllocated).
pub struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut lacking = Lacking::default();
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.allowed_pods {
            lacking.add("Too many pods", node.allowed_pods < 1);
        }
        let (wants, has, used) = (&pod.demand.requests, &node.allocatable, &node.requested);
        for (reason, wanted, allocatable, requested) in [
            ("Insufficient cpu", wants.cpu, has.cpu, used.cpu),
            ("Insufficient memory", wants.memory, has.memory, used.memory),
            ("Insufficient ephemeral-storage", wants.ephemeral, has.ephemeral, used.ephemeral),
        ] {
            if wanted > 0 && wanted > allocatable - requested {
                lacking.add(reason, wanted > allocatable);
            }
        }
        for (name, wanted) in &wants.scalars {
            let allocatable = has.scalar(name);
            if *wanted > 0 && *wanted > allocatable - used.scalar(name) {
                lacking.add(format!("Insufficient {name}"), *wanted > allocatable);
            }
        }
        lacking.into_result()
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let free = |allocatable: i64, requested: i64| {
            if allocatable <= 0 || requested > allocatable { 0 } else { (allocatable - requested) * 100 / allocatable }
        };
        let cpu = free(node.allocatable.cpu, node.nonzero_requested.cpu + pod.demand.nonzero.cpu);
        let memory = free(node.allocatable.memory, node.nonzero_requested.memory + pod.demand.nonzero.memory);
        (cpu + memory) / 2
    }

    fn weight(&self) -> i64 {
        1
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::NodeAdded | ClusterChange::NodeUpdated | ClusterChange::PodRemoved | ClusterChange::PodUpdated)
    }
}

/// What a node lacks.
#[derive(Default)]
struct Lacking {
    reasons: Vec<Cow<'static, str>>,
    unresolvable: bool,
}

impl Lacking {
    fn add(&mut self, reason: impl Into<Cow<'static, str>>, never_enough: bool) {
        self.reasons.push(reason.into());
        self.unresolvable |= never_enough;
    }

    fn into_result(self) -> Result<(), Rejection> {
        if self.reasons.is_empty() { Ok(()) } else { Err(Rejection { reasons: self.reasons, unresolvable: self.unresolvable }) }
    }
}

/// Nodes whose CPU and memory would be used to a similar share score higher.
pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (before, after) = (imbalance(node, 0, 0), imbalance(node, pod.demand.requests.cpu, pod.demand.requests.memory));
        // Upstream's formula: 50 where nothing changes, more where the pod evens the node out.
        let gain = (before - after) / 2.0 + 0.5;
        (gain * 100.0) as i64
    }

    fn weight(&self) -> i64 {
        1
    }

    fn may_help(&self, _change: ClusterChange) -> bool {
        false
    }
}

/// The standard deviation of the used shares of CPU and memory, 0..=0.5.
fn imbalance(node: &NodeInfo, cpu: i64, memory: i64) -> f64 {
    let share = |requested: i64, allocatable: i64| if allocatable <= 0 { 0.0 } else { (requested as f64 / allocatable as f64).min(1.0) };
    let cpu = share(node.requested.cpu + cpu, node.allocatable.cpu);
    let memory = share(node.requested.memory + memory, node.allocatable.memory);
    (cpu - memory).abs() / 2.0
}

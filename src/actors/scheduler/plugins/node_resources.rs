//! NodeResourcesFit and NodeResourcesBalancedAllocation.

use std::borrow::Cow;

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    node_info::{Demand, NodeInfo, PodInfo},
};

/// What a pod asks for must be free on the node; emptier nodes score higher (LeastAllocated).
pub struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let lacking = insufficient(&pod.demand, node);
        if lacking.is_empty() {
            return Ok(());
        }
        let unresolvable = lacking.iter().any(|lack| lack.requested > lack.capacity);
        Err(Rejection { reasons: lacking.iter().map(Insufficient::reason).collect(), unresolvable })
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let free = |allocatable: i64, requested: i64| {
            if allocatable <= 0 || requested > allocatable { 0 } else { share_of(allocatable.saturating_sub(requested), allocatable) }
        };
        let cpu = free(node.allocatable.cpu, node.nonzero_requested.cpu.saturating_add(pod.demand.nonzero.cpu));
        let memory = free(node.allocatable.memory, node.nonzero_requested.memory.saturating_add(pod.demand.nonzero.memory));
        (cpu + memory) / 2
    }

    fn weight(&self) -> i64 {
        1
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(
            change,
            ClusterChange::NodeAdded | ClusterChange::NodeUpdated | ClusterChange::PodRemoved | ClusterChange::PodShrank | ClusterChange::PodUpdated
        )
    }
}

/// A part in hundredths; amounts may be as large as numbers are.
fn share_of(part: i64, whole: i64) -> i64 {
    i64::try_from(i128::from(part) * 100 / i128::from(whole)).unwrap_or(i64::MAX)
}

/// A resource of which a node has less left than a pod asks for: CPU in thousandths of a core, memory and ephemeral storage in
/// bytes, others in units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insufficient {
    pub name: Cow<'static, str>,
    pub requested: i64,
    /// By the pods that are there.
    pub used: i64,
    /// What pods may use together.
    pub capacity: i64,
}

impl Insufficient {
    fn reason(&self) -> Cow<'static, str> {
        match &*self.name {
            "pods" => "Too many pods".into(),
            name => format!("Insufficient {name}").into(),
        }
    }
}

/// What a node has too little of for a pod, in upstream's order (`noderesources.Fits`).
pub fn insufficient(demand: &Demand, node: &NodeInfo) -> Vec<Insufficient> {
    let lacks = |name: Cow<'static, str>, requested: i64, used: i64, capacity: i64| {
        let fits = requested <= 0 || requested <= capacity.saturating_sub(used);
        (!fits).then_some(Insufficient { name, requested, used, capacity })
    };
    let (wants, used, has) = (&demand.requests, &node.requested, &node.allocatable);
    let there = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    let basic = [
        lacks("pods".into(), 1, there, node.allowed_pods),
        lacks("cpu".into(), wants.cpu, used.cpu, has.cpu),
        lacks("memory".into(), wants.memory, used.memory, has.memory),
        lacks("ephemeral-storage".into(), wants.ephemeral, used.ephemeral, has.ephemeral),
    ];
    let scalars = wants.scalars.iter().map(|(name, wanted)| lacks(name.clone().into(), *wanted, used.scalar(name), has.scalar(name)));
    basic.into_iter().chain(scalars).flatten().collect()
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
    let cpu = share(node.requested.cpu.saturating_add(cpu), node.allocatable.cpu);
    let memory = share(node.requested.memory.saturating_add(memory), node.allocatable.memory);
    (cpu - memory).abs() / 2.0
}

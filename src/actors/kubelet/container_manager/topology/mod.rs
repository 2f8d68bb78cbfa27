//! Resources of a container, or of a pod, that lie on the same NUMA nodes: upstream's topology manager (KEP-693). Pure.

pub mod mask;
pub mod merge;
pub mod options;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};

use self::{
    mask::NumaMask,
    merge::{Hint, NumaNodes, merge},
    options::{TopologyOptions, TopologyPolicy},
};
use super::refusal::Refusal;

/// The reason of pods whose resources do not lie together.
const TOPOLOGY_AFFINITY: &str = "TopologyAffinityError";

/// Whoever gives out resources of which some lie on NUMA nodes: for each resource that is asked for the hints, at least one.
pub trait HintProvider {
    /// Of one container, on a machine of these nodes.
    fn hints(&self, machine: NumaMask, pod: &Pod, container: &Container) -> Vec<Vec<Hint>>;

    /// Of all containers of a pod that run at the same time.
    fn pod_hints(&self, machine: NumaMask, pod: &Pod) -> Vec<Vec<Hint>>;
}

/// Where the resources of a pod's containers are to lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// By container's name; who is not here may lie anywhere.
    pub nodes: BTreeMap<String, NumaMask>,
    /// They lie nowhere else.
    pub strict: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyManager {
    pub options: TopologyOptions,
    machine: NumaNodes,
}

impl TopologyManager {
    /// A manager of a machine with these NUMA nodes. `distances` gives a node's file of distances from the kernel.
    ///
    /// # Errors
    /// When there are too many nodes, or the kernel does not tell how far they are from one another, in upstream's words.
    pub fn new(options: TopologyOptions, nodes: &BTreeSet<u32>, distances: impl Fn(u32) -> Option<String>) -> Result<Self, String> {
        let most = options.most_nodes;
        if nodes.len() > most || nodes.iter().any(|node| *node >= NumaMask::NODES) {
            return Err(format!("unsupported on machines with more than {most} NUMA Nodes"));
        }
        let mut machine = NumaNodes { all: nodes.iter().copied().collect(), distances: Vec::new() };
        if options.closest {
            let row = |node: u32| if nodes.contains(&node) { distances(node).and_then(|text| parse(&text)) } else { Some(Vec::new()) };
            let rows: Option<Vec<_>> = (0..=nodes.last().copied().unwrap_or(0)).map(row).collect();
            machine.distances = rows.ok_or("cannot discover NUMA topology: error getting NUMA distances from cadvisor")?;
        }
        Ok(TopologyManager { options, machine })
    }

    /// The machine's NUMA nodes.
    pub fn nodes(&self) -> NumaMask {
        self.machine.all
    }

    /// Whether pods whose resources lie elsewhere than they should are not let in.
    pub fn is_strict(&self) -> bool {
        self.options.policy != TopologyPolicy::BestEffort
    }

    /// The NUMA nodes on which resources that accept these should lie; `None` for any.
    ///
    /// # Errors
    /// When the policy lets nobody in who lies there.
    pub fn merge(&self, resources: &[Vec<Hint>]) -> Result<Option<NumaMask>, Refusal> {
        let (best, is_let_in) = merge(self.options.policy, &self.machine, self.options.closest, resources);
        if is_let_in {
            return Ok(best.nodes);
        }
        Err(Refusal::new(TOPOLOGY_AFFINITY, "Resources cannot be allocated with Topology locality"))
    }
}

/// Distances to the nodes in their order.
fn parse(text: &str) -> Option<Vec<u64>> {
    text.split_whitespace().map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{options::TopologyScope, *};

    fn options(closest: bool) -> TopologyOptions {
        TopologyOptions { policy: TopologyPolicy::Restricted, scope: TopologyScope::Container, closest, most_nodes: 8 }
    }

    fn hint(nodes: &[u32]) -> Hint {
        Hint { nodes: Some(nodes.iter().copied().collect()), preferred: true }
    }

    #[test]
    fn distances_are_the_kernels() {
        let files = ["10 30 20\n", "30 10 20\n", "20 20 10\n"];
        let told = |node: u32| files.get(node as usize).map(|text| (*text).to_owned());
        let manager = TopologyManager::new(options(true), &[0, 1, 2].into(), told).expect("a manager");
        let nearest = manager.merge(&[vec![hint(&[0, 1]), hint(&[0, 2])]]).expect("preferred");
        assert_eq!(nearest, Some([0, 2].into_iter().collect()));
        let why = TopologyManager::new(options(true), &[0, 1].into(), |_| None).expect_err("refused");
        assert_eq!(why, "cannot discover NUMA topology: error getting NUMA distances from cadvisor");
        assert!(TopologyManager::new(options(false), &[0, 1].into(), |_| None).is_ok(), "nobody asks");
    }

    #[test]
    fn a_machine_of_too_many_nodes_is_refused() {
        let why = TopologyManager::new(options(false), &(0..9).collect(), |_| None).expect_err("refused");
        assert_eq!(why, "unsupported on machines with more than 8 NUMA Nodes");
    }

    #[test]
    fn who_does_not_lie_together_is_refused_in_upstreams_words() {
        let manager = TopologyManager::new(options(false), &[0, 1].into(), |_| None).expect("a manager");
        let refusal = manager.merge(&[vec![hint(&[0])], vec![hint(&[1])]]).expect_err("refused");
        assert_eq!((refusal.reason, refusal.message.as_str()), (TOPOLOGY_AFFINITY, "Resources cannot be allocated with Topology locality"));
    }
}

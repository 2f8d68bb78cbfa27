//! Machines for tests.

use super::topology::{CpuInfo, CpuTopology};
use crate::kubelet::cpu_set::CpuSet;

pub fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).expect("a set")
}

/// A machine with so many sockets, NUMA nodes, cores and threads of each core. Sockets and nodes have as many cores each; the first threads of
/// all cores come first. Each node has a cache.
pub fn topology(sockets: u32, numa_nodes: u32, cores: u32, threads: u32) -> CpuTopology {
    let place = |cpu: u32| {
        let core = cpu % cores;
        let numa_node = core * numa_nodes / cores;
        CpuInfo { socket: core * sockets / cores, numa_node, uncore_cache: numa_node, core }
    };
    CpuTopology::new((0..cores * threads).map(|cpu| (cpu, place(cpu))).collect())
}

//! How much memory the machine's NUMA nodes have. Pure; read from what the kernel tells below `/sys/devices/system`.

use std::collections::{BTreeMap, BTreeSet};

/// What the API calls memory of usual pages.
pub const MEMORY: &str = "memory";

/// The memory of one NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMemory {
    /// Bytes, with those of huge pages.
    pub total: u64,
    /// Bytes of huge pages by the name of their resource, such as `hugepages-2Mi`.
    pub hugepages: BTreeMap<String, u64>,
}

/// By the nodes' numbers.
pub type MachineMemory = BTreeMap<u32, NodeMemory>;

/// Reads the memory of some nodes with huge pages of these sizes in KiB; `file` gives a file's text by its path, `None` when there is none.
///
/// # Errors
/// When the kernel does not tell how much a node has.
pub fn parse(nodes: &BTreeSet<u32>, sizes: &[u64], file: impl Fn(&str) -> Option<String>) -> Result<MachineMemory, String> {
    let mut all = MachineMemory::new();
    for node in nodes {
        let text = file(&format!("node/node{node}/meminfo")).unwrap_or_default();
        let total = text.lines().find_map(total).ok_or_else(|| format!("the memory of NUMA node {node} is not known"))?;
        let mut hugepages = BTreeMap::new();
        for kib in sizes {
            let count = file(&format!("node/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages"));
            let count: u64 = count.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            hugepages.insert(resource(*kib), count.saturating_mul(*kib).saturating_mul(1024));
        }
        all.insert(*node, NodeMemory { total, hugepages });
    }
    Ok(all)
}

/// Bytes of `Node 0 MemTotal:  24683584 kB`.
fn total(line: &str) -> Option<u64> {
    let (_, kib) = line.split_once("MemTotal:")?;
    kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The resource of huge pages of so many KiB.
fn resource(kib: u64) -> String {
    const UNITS: [(u64, &str); 2] = [(1 << 20, "Gi"), (1 << 10, "Mi")];
    let unit = UNITS.into_iter().find(|(unit, _)| kib.is_multiple_of(*unit));
    unit.map_or_else(|| format!("hugepages-{kib}Ki"), |(unit, name)| format!("hugepages-{}{name}", kib / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_tell_what_nodes_have() {
        let file = |path: &str| match path {
            "node/node0/meminfo" => Some("Node 0 MemTotal:       24683584 kB\nNode 0 MemFree: 1 kB\n".to_owned()),
            "node/node0/hugepages/hugepages-2048kB/nr_hugepages" => Some("3\n".to_owned()),
            _ => None,
        };
        let hugepages = [("hugepages-2Mi", 6 << 20), ("hugepages-1Gi", 0)].map(|(name, bytes)| (name.to_owned(), bytes)).into();
        let node = NodeMemory { total: 24_683_584 << 10, hugepages };
        assert_eq!(parse(&[0].into(), &[2048, 1 << 20], file), Ok([(0, node)].into()));
        assert_eq!(parse(&[1].into(), &[], file), Err("the memory of NUMA node 1 is not known".into()));
        assert_eq!(resource(64), "hugepages-64Ki");
    }
}

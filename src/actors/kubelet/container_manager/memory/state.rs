//! Who has how much memory of which NUMA nodes, and the file `memory_manager_state` that keeps it for the next process, in upstream's format.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

use crate::kubelet::container_manager::kept::fnv;

/// One kind of memory of a node, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    pub total: u64,
    pub system_reserved: u64,
    pub allocatable: u64,
    pub reserved: u64,
    pub free: u64,
}

/// A NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// How many blocks lie here.
    pub number_of_assignments: u64,
    /// By resource.
    pub memory_map: BTreeMap<String, Table>,
    /// The nodes on which blocks lie that lie here: all of them on the same ones.
    pub cells: Vec<u32>,
}

/// Memory of one kind that a container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    #[serde(rename = "numaAffinity")]
    pub nodes: Vec<u32>,
    #[serde(rename = "type")]
    pub resource: String,
    /// Bytes.
    pub size: u64,
}

/// By pod's uid and container's name.
pub type Entries = BTreeMap<String, BTreeMap<String, Vec<Block>>>;

/// Who has what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryState {
    pub nodes: BTreeMap<u32, NodeState>,
    pub entries: Entries,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    policy_name: String,
    #[serde(default)]
    machine_state: BTreeMap<u32, NodeState>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    entries: Entries,
    #[serde(default)]
    checksum: u64,
}

impl File {
    /// FNV-1a (32 bits) of what Go shows of upstream's `MemoryManagerCheckpoint` with no checksum in it.
    fn sum(&self) -> u64 {
        let nodes = self.machine_state.iter().map(|(node, state)| {
            let tables = state.memory_map.iter().map(|(resource, table)| {
                let Table { total, system_reserved, allocatable, reserved, free } = table;
                format!(
                    "{resource}:<*>{{TotalMemSize:(uint64){total} SystemReserved:(uint64){system_reserved} Allocatable:(uint64){allocatable} \
                     Reserved:(uint64){reserved} Free:(uint64){free}}}"
                )
            });
            format!(
                "{node}:<*>{{NumberOfAssignments:(int){} MemoryMap:(map[v1.ResourceName]*state.MemoryTable)map[{}] Cells:([]int){}}}",
                state.number_of_assignments,
                spaced(tables),
                list(&state.cells)
            )
        });
        let entries = self.entries.iter().map(|(pod, containers)| {
            let containers = containers.iter().map(|(name, blocks)| {
                let block = |block: &Block| {
                    let Block { nodes, resource, size } = block;
                    format!("{{NUMAAffinity:([]int){} Type:(v1.ResourceName){resource} Size:(uint64){size}}}", list(nodes))
                };
                format!("{name}:[{}]", spaced(blocks.iter().map(block)))
            });
            format!("{pod}:map[{}]", spaced(containers))
        });
        let mut shown = format!("(*state.MemoryManagerCheckpoint){{PolicyName:(string){} ", self.policy_name);
        // Writing into a text never fails.
        let _ = write!(
            shown,
            "MachineState:(state.NUMANodeMap)map[{}] Entries:(state.ContainerMemoryAssignments)map[{}] Checksum:(checksum.Checksum)0}}",
            spaced(nodes),
            spaced(entries)
        );
        fnv(shown.as_bytes()).into()
    }
}

fn spaced(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

fn list(nodes: &[u32]) -> String {
    format!("[{}]", spaced(nodes.iter().map(ToString::to_string)))
}

/// The text of the file.
pub fn encode(policy: &str, state: &MemoryState) -> String {
    let mut file = File { policy_name: policy.to_owned(), machine_state: state.nodes.clone(), entries: state.entries.clone(), checksum: 0 };
    file.checksum = file.sum();
    serde_json::to_string(&file).expect("texts and numbers always encode")
}

/// Reads the file's text.
///
/// # Errors
/// When it is of another policy, or was tampered with, in upstream's words.
pub fn decode(policy: &str, text: &str) -> Result<MemoryState, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.checksum != 0 && file.checksum != file.sum() {
        return Err("checkpoint is corrupted".into());
    }
    if file.policy_name != policy {
        return Err(format!("[memorymanager] configured policy {policy:?} differs from state checkpoint policy {:?}", file.policy_name));
    }
    Ok(MemoryState { nodes: file.machine_state, entries: file.entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_upstreams() {
        let text = "{\"policyName\":\"static\",\"machineState\":{\"0\":{\"numberOfAssignments\":0,\"memoryMap\":{\"memory\":{\"total\":2048,\
                    \"systemReserved\":512,\"allocatable\":1536,\"reserved\":512,\"free\":1024}},\"cells\":[]}},\"entries\":{\"pod\":{\"container1\":\
                    [{\"numaAffinity\":[0],\"type\":\"memory\",\"size\":512}]}},\"checksum\":4215593881}";
        let state = decode("static", text).expect("it is upstream's");
        assert_eq!(state.entries["pod"]["container1"][0].size, 512);
        assert_eq!(encode("static", &state), text);
        assert_eq!(decode("static", &text.replace("1024", "1025")), Err("checkpoint is corrupted".into()));
        let why = "[memorymanager] configured policy \"None\" differs from state checkpoint policy \"static\"";
        assert_eq!(decode("None", text), Err(why.into()));
    }
}

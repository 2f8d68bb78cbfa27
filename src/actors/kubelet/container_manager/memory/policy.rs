//! The static policy: containers of Guaranteed pods have the memory that they ask for on as few NUMA nodes as have it. Pure.
//!
//! A node is used alone, or always with the same others: else containers that lie on one node could find its memory taken by those that lie on
//! several. What an init container had later containers of its pod may have after it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};
use troupe_api::meta::Quantity;
use troupe_cri::{quantity::value, resources::qos_class};

use super::{
    machine::{MEMORY, MachineMemory},
    state::{Block, MemoryState, NodeState, Table},
};
use crate::kubelet::container_manager::{
    cpu::policy::{at_once, in_order},
    refusal::Refusal,
    topology::{mask::NumaMask, merge::Hint},
};

/// Bytes by resource.
type Amounts = BTreeMap<String, u64>;

/// What is kept of each NUMA node for others than pods.
pub type Reserved = BTreeMap<u32, Amounts>;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    initial: MemoryState,
}

impl MemoryPolicy {
    /// A policy for a machine of which this is reserved on its nodes, and so many bytes by the node as a whole.
    ///
    /// # Errors
    /// When both are not the same, or there is no such node, in upstream's words.
    pub fn new(machine: &MachineMemory, reserved: &Reserved, kept: u64) -> Result<Self, String> {
        if let Some(node) = reserved.keys().find(|node| !machine.contains_key(*node)) {
            return Err(format!("the reserved memory configuration references a NUMA node {node} that does not exist on this machine"));
        }
        let named: BTreeSet<&str> = reserved.values().flat_map(BTreeMap::keys).map(String::as_str).chain([MEMORY]).collect();
        for name in named {
            let sum = reserved.values().filter_map(|of_node| of_node.get(name)).copied().fold(0, u64::saturating_add);
            let wanted = if name == MEMORY { kept } else { 0 };
            if sum != wanted {
                let [sum, wanted] = [sum, wanted].map(|bytes| Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX)).to_string());
                return Err(format!(
                    "the total amount {sum:?} of type {name:?} is not equal to the value {wanted:?} determined by Node Allocatable feature"
                ));
            }
        }
        if kept == 0 {
            return Err("[memorymanager] you should specify the system reserved memory".into());
        }
        let mut nodes = BTreeMap::new();
        for (node, memory) in machine {
            let kept = |name: &str| reserved.get(node).and_then(|of_node| of_node.get(name)).copied().unwrap_or(0);
            let huge = memory.hugepages.values().copied().fold(0, u64::saturating_add);
            let usual = (MEMORY, memory.total, memory.total.saturating_sub(huge));
            let kinds = memory.hugepages.iter().map(|(name, bytes)| (name.as_str(), *bytes, *bytes)).chain([usual]);
            let tables = kinds.map(|(name, total, usable)| {
                let allocatable = usable.saturating_sub(kept(name));
                (name.to_owned(), Table { total, system_reserved: kept(name), allocatable, reserved: 0, free: allocatable })
            });
            nodes.insert(*node, NodeState { number_of_assignments: 0, memory_map: tables.collect(), cells: vec![*node] });
        }
        Ok(MemoryPolicy { initial: MemoryState { nodes, entries: BTreeMap::new() } })
    }

    /// What there is while nobody has anything.
    pub fn initial(&self) -> MemoryState {
        self.initial.clone()
    }

    /// Whether what an earlier process left fits the machine.
    ///
    /// # Errors
    /// When it does not, in upstream's words.
    pub fn check(&self, state: &MemoryState) -> Result<(), String> {
        let fixed = |state: &MemoryState| -> Vec<(u32, String, [u64; 3])> {
            let tables = state.nodes.iter().flat_map(|(node, of_node)| of_node.memory_map.iter().map(move |(name, table)| (*node, name, table)));
            tables.map(|(node, name, table)| (node, name.clone(), [table.total, table.system_reserved, table.allocatable])).collect()
        };
        let tables = || state.nodes.values().flat_map(|node| &node.memory_map);
        let sound = tables().all(|(_, table)| table.free.checked_add(table.reserved) == Some(table.allocatable));
        let mut left: BTreeMap<&str, i128> = BTreeMap::new();
        for (name, table) in tables() {
            *left.entry(name).or_default() += i128::from(table.reserved);
        }
        for block in state.entries.values().flat_map(BTreeMap::values).flatten() {
            *left.entry(&block.resource).or_default() -= i128::from(block.size);
        }
        if fixed(state) == fixed(&self.initial) && sound && left.values().all(|left| *left == 0) {
            return Ok(());
        }
        Err("[memorymanager] the expected machine state is different from the real one".into())
    }

    /// Where a container's memory could lie; `None` for one that may lie anywhere.
    pub fn hints(&self, state: &MemoryState, pod: &Pod, container: &Container) -> Option<Vec<Hint>> {
        let wanted = wanted(pod, container);
        if wanted.is_empty() {
            return None;
        }
        let has = state.entries.get(uid(pod)).and_then(|of_pod| of_pod.get(&container.name));
        Some(has.map_or_else(|| hints_of(state, pod, &container.name, &wanted), |blocks| vec![where_they_lie(blocks)]))
    }

    /// Where the memory of a whole pod could lie.
    pub fn pod_hints(&self, state: &MemoryState, pod: &Pod) -> Option<Vec<Hint>> {
        let spec = pod.spec.as_ref()?;
        if let Some(of_pod) = state.entries.get(uid(pod)) {
            return Some(vec![where_they_lie(of_pod.values().flatten())]);
        }
        let named: BTreeSet<String> = in_order(spec).flat_map(|(container, _)| wanted(pod, container).into_keys()).collect();
        let of =
            |name: &str, container: &Container| wanted(pod, container).get(name).map_or(0, |bytes| usize::try_from(*bytes).unwrap_or(usize::MAX));
        let sum = |name: String| {
            let bytes = at_once(spec, |container| of(&name, container));
            (name, bytes as u64)
        };
        let wanted: Amounts = named.into_iter().map(sum).collect();
        if wanted.is_empty() { None } else { Some(hints_of(state, pod, "", &wanted)) }
    }

    /// Gives a container of a pod its memory, if it is to have some and has none: on these nodes, and on more if they have not as much. Where the
    /// topology manager is strict that must be as few as would do on an empty machine.
    ///
    /// # Errors
    /// When no nodes have as much.
    pub fn allocate(&self, state: &mut MemoryState, pod: &Pod, container: &Container, nodes: Option<NumaMask>, strict: bool) -> Result<(), Refusal> {
        let wanted = wanted(pod, container);
        if wanted.is_empty() || state.entries.get(uid(pod)).is_some_and(|of_pod| of_pod.contains_key(&container.name)) {
            return Ok(());
        }
        let nodes = choose(state, pod, &container.name, &wanted, nodes, strict)?;
        let blocks: Vec<Block> =
            wanted.iter().map(|(name, size)| Block { nodes: nodes.nodes().collect(), resource: name.clone(), size: *size }).collect();
        for block in &blocks {
            let again = reusable(state, pod, &container.name, nodes, &block.resource);
            take(state, block, block.size.saturating_sub(again));
            shrink(state, pod, &container.name, block);
        }
        state.entries.entry(uid(pod).to_owned()).or_default().insert(container.name.clone(), blocks);
        Ok(())
    }
}

/// Whether a container is to have memory of its own.
pub fn wants(pod: &Pod, container: &Container) -> bool {
    !wanted(pod, container).is_empty()
}

/// A pod is gone: what it had is free. Gives whether it had anything.
pub fn release(state: &mut MemoryState, pod: &str) -> bool {
    let Some(had) = state.entries.remove(pod) else { return false };
    for block in had.into_values().flatten() {
        let mut left = block.size;
        for id in block.nodes {
            let Some(node) = state.nodes.get_mut(&id) else { continue };
            node.number_of_assignments = node.number_of_assignments.saturating_sub(1);
            if node.number_of_assignments == 0 {
                node.cells = vec![id];
            }
            if let Some(table) = node.memory_map.get_mut(&block.resource) {
                let freed = left.min(table.reserved);
                table.reserved -= freed;
                table.free += freed;
                left -= freed;
            }
        }
    }
    true
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// What a container is to have for itself. Pods with resources of their own have nothing, as upstream's without its feature
/// `PodLevelResourceManagers`.
fn wanted(pod: &Pod, container: &Container) -> Amounts {
    let own = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let of_pod = own.is_some_and(|own| [&own.requests, &own.limits].into_iter().flatten().any(|list| !list.is_empty()));
    if of_pod || qos_class(pod) != "Guaranteed" {
        return Amounts::new();
    }
    let resources = container.resources.as_ref();
    let listed = resources.and_then(|resources| resources.requests.as_ref().or(resources.limits.as_ref())).into_iter().flatten();
    let known = listed.filter(|(name, _)| *name == MEMORY || name.starts_with("hugepages-"));
    known.map(|(name, amount)| (name.clone(), u64::try_from(value(&amount.0)).unwrap_or(0))).collect()
}

/// The nodes of what is had.
fn where_they_lie<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Hint {
    let nodes = blocks.into_iter().flat_map(|block| block.nodes.iter().copied());
    Hint { nodes: Some(nodes.collect()), preferred: true }
}

/// What some nodes have of a resource together.
fn sum(state: &MemoryState, mask: NumaMask, name: &str, of: fn(&Table) -> u64) -> u64 {
    let tables = mask.nodes().filter_map(|node| state.nodes.get(&node)?.memory_map.get(name));
    tables.map(of).fold(0, u64::saturating_add)
}

/// What init containers have on the same nodes that end before a container starts.
fn reusable(state: &MemoryState, pod: &Pod, before: &str, mask: NumaMask, name: &str) -> u64 {
    let (Some(spec), Some(of_pod)) = (&pod.spec, state.entries.get(uid(pod))) else { return 0 };
    let earlier = in_order(spec).take_while(|(container, _)| container.name != before).filter(|(_, ends)| *ends);
    let blocks = earlier.filter_map(|(container, _)| of_pod.get(&container.name)).flatten();
    let same = blocks.filter(|block| block.resource == name && block.nodes.iter().copied().collect::<NumaMask>() == mask);
    same.map(|block| block.size).fold(0, u64::saturating_add)
}

/// Whether nodes have as much as is wanted, with what is used again.
fn has_room(state: &MemoryState, pod: &Pod, before: &str, wanted: &Amounts, mask: NumaMask) -> bool {
    let free = |name: &str| sum(state, mask, name, |table| table.free).saturating_add(reusable(state, pod, before, mask, name));
    wanted.iter().all(|(name, size)| free(name) >= *size)
}

/// Whether a node is used alone, or with others than these.
fn collides(state: &MemoryState, mask: NumaMask) -> bool {
    let alone = mask.count() == 1;
    let other = |node: &NodeState| {
        let cells: NumaMask = node.cells.iter().copied().collect();
        if alone { cells.count() > 1 } else { node.number_of_assignments > 0 && cells != mask }
    };
    mask.nodes().filter_map(|node| state.nodes.get(&node)).any(other)
}

/// The sets of nodes with enough memory; none when there are none. As few as would do on an empty machine are preferred.
fn possible(state: &MemoryState, pod: &Pod, before: &str, wanted: &Amounts) -> Vec<(NumaMask, bool)> {
    let all: BTreeSet<u32> = state.nodes.keys().copied().collect();
    let would_do = |mask: &NumaMask| wanted.iter().all(|(name, size)| sum(state, *mask, name, |table| table.allocatable) >= *size);
    let masks: Vec<NumaMask> = NumaMask::all_of(&all).into_iter().filter(would_do).collect();
    let least = masks.iter().map(|mask| mask.count()).min();
    let fitting = masks.into_iter().filter(|mask| !collides(state, *mask) && has_room(state, pod, before, wanted, *mask));
    fitting.map(|mask| (mask, Some(mask.count()) == least)).collect()
}

fn hints_of(state: &MemoryState, pod: &Pod, before: &str, wanted: &Amounts) -> Vec<Hint> {
    let possible = possible(state, pod, before, wanted).into_iter();
    let hints: Vec<Hint> = possible.map(|(mask, preferred)| Hint { nodes: Some(mask), preferred }).collect();
    if hints.is_empty() { vec![Hint::NOWHERE] } else { hints }
}

fn choose(state: &MemoryState, pod: &Pod, container: &str, wanted: &Amounts, nodes: Option<NumaMask>, strict: bool) -> Result<NumaMask, Refusal> {
    if let Some(nodes) = nodes.filter(|nodes| has_room(state, pod, container, wanted, *nodes)) {
        if collides(state, nodes) {
            return Err(Refusal::unexpected("[memorymanager] preferred hint violates NUMA node allocation"));
        }
        return Ok(nodes);
    }
    let around = |mask: NumaMask| nodes.is_none_or(|nodes| nodes.and(mask) == nodes);
    let possible = possible(state, pod, container, wanted).into_iter().filter(|(mask, _)| around(*mask));
    let best = possible.min_by_key(|(mask, preferred)| (!preferred, mask.count(), *mask));
    match (best, nodes) {
        (None, None) => {
            Err(Refusal::unexpected("[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"))
        }
        (None, Some(_)) => Err(Refusal::unexpected("[memorymanager] failed to find NUMA nodes to extend the current topology hint")),
        (Some((_, false)), None) if strict => Err(Refusal::unexpected("[memorymanager] failed to find the default preferred hint")),
        (Some((_, false)), Some(_)) if strict => Err(Refusal::unexpected("[memorymanager] failed to find the extended preferred hint")),
        (Some((mask, _)), _) => Ok(mask),
    }
}

/// Takes so much of the free memory of a block's nodes, the lowest first.
fn take(state: &mut MemoryState, block: &Block, mut left: u64) {
    for id in &block.nodes {
        let Some(node) = state.nodes.get_mut(id) else { continue };
        node.number_of_assignments += 1;
        node.cells.clone_from(&block.nodes);
        if let Some(table) = node.memory_map.get_mut(&block.resource) {
            let taken = left.min(table.free);
            table.free -= taken;
            table.reserved += taken;
            left -= taken;
        }
    }
}

/// What a container uses again of earlier init containers is theirs no more: all blocks together are what the pod has.
fn shrink(state: &mut MemoryState, pod: &Pod, container: &str, block: &Block) {
    let (Some(spec), Some(of_pod)) = (&pod.spec, state.entries.get_mut(uid(pod))) else { return };
    let mut left = block.size;
    for (earlier, _) in in_order(spec).take_while(|(earlier, _)| earlier.name != container).filter(|(_, ends)| *ends) {
        let blocks = of_pod.get_mut(&earlier.name).into_iter().flatten();
        for known in blocks.filter(|known| known.resource == block.resource && known.nodes == block.nodes) {
            let used = left.min(known.size);
            known.size -= used;
            left -= used;
        }
    }
}

#[cfg(test)]
mod tests;

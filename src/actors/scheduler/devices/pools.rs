//! Which pools of devices a node can reach.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Node, NodeSelector},
    resource::v1::{CounterSet, Device, ResourceSlice, ResourceSliceSpec},
};

use super::slices::{PoolName, Slices, pool_of};
use crate::scheduler::node_matching::selector_matches;

/// A pool as one node sees it.
#[derive(Debug)]
pub struct Pool {
    pub driver: Arc<str>,
    pub name: Arc<str>,
    pub state: PoolState,
}

#[derive(Debug)]
pub enum PoolState {
    Usable {
        /// Slices with devices that the node may reach.
        slices: Vec<Arc<ResourceSlice>>,
        /// Slices with devices that it does not reach: they may take of the same counters.
        others: Vec<Arc<ResourceSlice>>,
        counters: BTreeMap<String, CounterSet>,
    },
    /// The driver is publishing it just now.
    Incomplete,
    Invalid,
}

/// The devices of a slice.
pub fn devices(slice: &ResourceSlice) -> &[Device] {
    slice.spec.devices.as_deref().unwrap_or_default()
}

fn counter_sets(slice: &ResourceSlice) -> &[CounterSet] {
    slice.spec.shared_counters.as_deref().unwrap_or_default()
}

/// Whether a node is meant.
pub fn means(node: &Node, name: Option<&str>, all: Option<bool>, selector: Option<&NodeSelector>) -> bool {
    match (name.filter(|name| !name.is_empty()), all, selector) {
        (Some(name), ..) => node.metadata.name.as_deref() == Some(name),
        (None, Some(true), _) => true,
        (None, _, Some(selector)) => selector_matches(selector, node),
        (None, _, None) => false,
    }
}

fn concerns(spec: &ResourceSliceSpec, slice: &ResourceSlice, node: &Node) -> bool {
    if !counter_sets(slice).is_empty() {
        return true;
    }
    if spec.per_device_node_selection == Some(true) {
        let reaches = |device: &Device| means(node, device.node_name.as_deref(), device.all_nodes, device.node_selector.as_ref());
        return devices(slice).iter().any(reaches);
    }
    means(node, spec.node_name.as_deref(), spec.all_nodes, spec.node_selector.as_ref())
}

/// The pools of a node, by their names; those whose devices have to be made ready first come last.
pub fn gather(slices: &Slices, node: &Node) -> Vec<Pool> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let mut found: BTreeMap<PoolName, Vec<Arc<ResourceSlice>>> = BTreeMap::new();
    for slice in slices.of_node(name).into_iter().filter(|slice| concerns(&slice.spec, slice, node)) {
        let of_pool = found.entry(pool_of(&slice.spec)).or_default();
        let newest = of_pool.first().map_or(i64::MIN, |known| known.spec.pool.generation);
        if slice.spec.pool.generation > newest {
            of_pool.clear();
        }
        if slice.spec.pool.generation >= newest {
            of_pool.push(slice);
        }
    }
    let (mut pools, mut bound) = (Vec::new(), Vec::new());
    for (id, of_node) in found {
        // Nothing but counters is no pool of the node.
        let Some(state) = state_of(&id, of_node, slices) else { continue };
        let binds = matches!(&state, PoolState::Usable { slices, .. } if slices.iter().any(|slice| devices(slice).iter().any(has_conditions)));
        let pool = Pool { driver: id.0, name: id.1, state };
        if binds { bound.push(pool) } else { pools.push(pool) }
    }
    pools.append(&mut bound);
    pools
}

fn has_conditions(device: &Device) -> bool {
    device.binding_conditions.as_ref().is_some_and(|conditions| !conditions.is_empty())
}

/// What there is of a pool; `None` if the driver has replaced what the node sees.
fn state_of(id: &PoolName, of_node: Vec<Arc<ResourceSlice>>, slices: &Slices) -> Option<PoolState> {
    let (generation, count) = (of_node[0].spec.pool.generation, of_node[0].spec.pool.resource_slice_count);
    let is_all = |slices: &[Arc<ResourceSlice>]| i64::try_from(slices.len()) == Ok(count);
    if is_all(&of_node) {
        return Some(build(of_node, Vec::new()));
    }
    let mut all = slices.of_pool(id);
    if all.iter().any(|slice| slice.spec.pool.generation > generation) {
        return None;
    }
    all.retain(|slice| slice.spec.pool.generation == generation);
    if !is_all(&all) {
        return Some(PoolState::Incomplete);
    }
    let own: BTreeSet<Option<&str>> = of_node.iter().map(|slice| slice.metadata.name.as_deref()).collect();
    let others = all.iter().filter(|slice| !own.contains(&slice.metadata.name.as_deref())).cloned().collect();
    Some(build(of_node, others))
}

fn build(of_node: Vec<Arc<ResourceSlice>>, others: Vec<Arc<ResourceSlice>>) -> PoolState {
    let (with_counters, slices): (Vec<_>, Vec<_>) = of_node.into_iter().partition(|slice| !counter_sets(slice).is_empty());
    let mut names = BTreeSet::new();
    if !slices.iter().flat_map(|slice| devices(slice)).all(|device| names.insert(device.name.as_str())) {
        return PoolState::Invalid;
    }
    let mut counters = BTreeMap::new();
    for set in with_counters.iter().flat_map(|slice| counter_sets(slice)) {
        if counters.insert(set.name.clone(), set.clone()).is_some() {
            return PoolState::Invalid;
        }
    }
    let known = |device: &Device| {
        device.consumes_counters.iter().flatten().all(|consumption| {
            let set: Option<&CounterSet> = counters.get(&consumption.counter_set);
            set.is_some_and(|set| consumption.counters.keys().all(|name| set.counters.contains_key(name)))
        })
    };
    if slices.iter().chain(&others).flat_map(|slice| devices(slice)).all(known) {
        PoolState::Usable { slices, others, counters }
    } else {
        PoolState::Invalid
    }
}

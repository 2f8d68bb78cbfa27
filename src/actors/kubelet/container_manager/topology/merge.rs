//! On which NUMA nodes a container's resources lie together best: one hint out of what each resource would accept. Pure.
//!
//! Upstream looks at every combination of one hint per resource. Here combinations that come to the same are looked at once, which gives the same
//! result: how good a combination is depends on what it comes to alone.

use std::{cmp::Reverse, collections::BTreeSet};

use super::{mask::NumaMask, options::TopologyPolicy};

/// NUMA nodes on which a resource could lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// `None` for any.
    pub nodes: Option<NumaMask>,
    /// No fewer nodes would do, on an empty machine.
    pub preferred: bool,
}

impl Hint {
    /// What a resource says that may lie anywhere.
    pub const ANY: Hint = Hint { nodes: None, preferred: true };
    /// What one says that finds no place.
    pub const NOWHERE: Hint = Hint { nodes: None, preferred: false };
}

/// The machine's NUMA nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumaNodes {
    pub all: NumaMask,
    /// How far each node is from each other one, where the nearest are preferred.
    pub distances: Vec<Vec<u64>>,
}

impl NumaNodes {
    /// How far the nodes of a set are from one another, all together.
    fn distance(&self, mask: NumaMask) -> u64 {
        let between = |from: u32, to: u32| self.distances.get(from as usize).and_then(|row| row.get(to as usize)).copied().unwrap_or(0);
        mask.nodes().flat_map(|from| mask.nodes().map(move |to| between(from, to))).fold(0, u64::saturating_add)
    }

    /// Less is better: few nodes, near ones, low numbers.
    fn fitness(&self, mask: NumaMask, closest: bool) -> (usize, u64, NumaMask) {
        (mask.count(), if closest { self.distance(mask) } else { 0 }, mask)
    }
}

/// What some hints, one for each resource, come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Combination {
    /// The nodes that all of them accept.
    nodes: NumaMask,
    /// While all are preferred and those with nodes have the same ones: these.
    preferred: Option<Option<NumaMask>>,
}

impl Combination {
    fn with(self, hint: Hint) -> Self {
        let Some(nodes) = hint.nodes else {
            return Combination { preferred: self.preferred.filter(|_| hint.preferred), ..self };
        };
        let same = |common: &Option<NumaMask>| hint.preferred && common.is_none_or(|common| common == nodes);
        Combination { nodes: self.nodes.and(nodes), preferred: self.preferred.filter(same).map(|_| Some(nodes)) }
    }
}

/// Merges the hints of all resources, of each at least one. Gives the best, and whether a pod with it is let in.
pub fn merge(policy: TopologyPolicy, machine: &NumaNodes, closest: bool, resources: &[Vec<Hint>]) -> (Hint, bool) {
    let single = policy == TopologyPolicy::SingleNumaNode;
    let fits = |hint: &&Hint| !single || hint.preferred && hint.nodes.is_none_or(|nodes| nodes.count() == 1);
    let resources: Vec<Vec<Hint>> = resources.iter().map(|hints| hints.iter().filter(fits).copied().collect()).collect();
    let best = best(machine, closest && !single, &resources);
    // One node of a machine that has no other: anywhere.
    let nodes = best.nodes.filter(|nodes| !single || *nodes != machine.all);
    (Hint { nodes, ..best }, policy == TopologyPolicy::BestEffort || best.preferred)
}

fn best(machine: &NumaNodes, closest: bool, resources: &[Vec<Hint>]) -> Hint {
    let mut combinations = BTreeSet::from([Combination { nodes: machine.all, preferred: Some(None) }]);
    for hints in resources {
        combinations = combinations.iter().flat_map(|combination| hints.iter().map(|hint| combination.with(*hint))).collect();
    }
    // What the resource needs that needs the most nodes.
    let least = |hints: &Vec<Hint>| hints.iter().filter_map(|hint| hint.nodes).map(NumaMask::count).min();
    let wanted = resources.iter().filter_map(least).max().unwrap_or(0);
    let rank = |combination: &Combination| {
        let count = combination.nodes.count();
        let fitness = machine.fitness(combination.nodes, closest);
        if combination.preferred.is_some() {
            return (0, Reverse(0), fitness);
        }
        // As many as are wanted, or nearly as many, before more.
        if count <= wanted { (1, Reverse(count), fitness) } else { (2, Reverse(0), fitness) }
    };
    let best = combinations.iter().filter(|combination| !combination.nodes.is_empty()).min_by_key(|combination| rank(combination));
    match best {
        Some(best) => Hint { nodes: Some(best.nodes), preferred: best.preferred.is_some() },
        None => Hint { nodes: Some(machine.all), preferred: false },
    }
}

#[cfg(test)]
mod tests;

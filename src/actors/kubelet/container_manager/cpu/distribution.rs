//! CPUs of a container that lie evenly on NUMA nodes (`distribute-cpus-across-numa`): as few nodes as have as many each, and of those the ones that
//! leave the machine most even. Pure; the choice is upstream's (`takeByTopologyNUMADistributed`).

use std::collections::BTreeMap;

use super::{
    assignment::{nodes_in_order, take},
    topology::{CpuTopology, Level},
};
use crate::kubelet::cpu_set::CpuSet;

/// How many CPUs NUMA nodes have left.
type Left = BTreeMap<u32, usize>;

/// Takes so many of the free CPUs, `group` of them together each time. Where they cannot be even they are taken as by [`take`].
///
/// # Errors
/// When there are not as many, in upstream's words.
pub fn distribute(topology: &CpuTopology, free: &CpuSet, count: usize, group: usize) -> Result<CpuSet, String> {
    let group = group.max(1);
    if count == 0 || !count.is_multiple_of(group) || count > free.len() {
        return take(topology, free, count, false);
    }
    let nodes = nodes_in_order(topology, free);
    let left: Left = nodes.iter().map(|node| (*node, topology.within(free, Level::NumaNode, *node).len())).collect();
    let groups = count / group;
    let on_each = topology.cpus().len().div_ceil(group).div_ceil(topology.count(Level::NumaNode).max(1)).max(1);
    for width in groups.div_ceil(on_each)..=groups.min(nodes.len()) {
        let found = combinations(&nodes, width).into_iter().filter_map(|chosen| Choice::of(chosen, &left, count, group));
        // The first of those that are as good.
        if let Some(best) = found.min_by_key(|choice| choice.unevenness) {
            return best.take(topology, free, group);
        }
    }
    take(topology, free, count, false)
}

/// NUMA nodes on which CPUs could lie.
#[derive(Debug)]
struct Choice {
    nodes: Vec<u32>,
    /// CPUs of each.
    share: usize,
    /// CPUs beyond the shares, and the nodes that they are taken from in turn.
    rest: usize,
    rest_from: Vec<u32>,
    /// How unevenly the machine is used then: the standard deviation of what nodes have left, in thousandths of a CPU.
    unevenness: u64,
}

impl Choice {
    /// The best use of some nodes; `None` if they have not as many.
    fn of(nodes: Vec<u32>, left: &Left, count: usize, group: usize) -> Option<Self> {
        let groups: usize = nodes.iter().map(|node| left[node] / group).sum();
        let share = count / nodes.len() / group * group;
        if groups * group < count || nodes.iter().any(|node| left[node] < share) {
            return None;
        }
        let mut after = left.clone();
        for node in &nodes {
            after.entry(*node).and_modify(|left| *left -= share);
        }
        let rest = count - share * nodes.len();
        if rest == 0 {
            let unevenness = unevenness(&after);
            return Some(Choice { nodes, share, rest, rest_from: Vec::new(), unevenness });
        }
        let able: Vec<u32> = nodes.iter().copied().filter(|node| after[node] >= group).collect();
        let subsets = (1..=able.len()).rev().flat_map(|width| combinations(&able, width));
        let fitting = subsets.filter_map(|from| Some((unevenness(&without(&after, &from, rest, group)?), from)));
        let (unevenness, rest_from) = fitting.min_by_key(|(unevenness, _)| *unevenness)?;
        Some(Choice { nodes, share, rest, rest_from, unevenness })
    }

    fn take(&self, topology: &CpuTopology, free: &CpuSet, group: usize) -> Result<CpuSet, String> {
        let mut taken = CpuSet::default();
        let of_node = |taken: &CpuSet, node: u32| topology.within(&free.difference(taken), Level::NumaNode, node);
        for node in &self.nodes {
            taken = taken.union(&take(topology, &of_node(&taken, *node), self.share, false)?);
        }
        let mut rest = self.rest;
        for node in self.rest_from.iter().cycle() {
            if rest == 0 {
                break;
            }
            let there = of_node(&taken, *node);
            // That there is enough was seen when they were chosen.
            if there.len() >= group {
                taken = taken.union(&take(topology, &there, group, false)?);
                rest -= group;
            }
        }
        Ok(taken)
    }
}

/// What is left when so many CPUs are taken from some nodes in turn; `None` where there are not as many.
fn without(left: &Left, from: &[u32], count: usize, group: usize) -> Option<Left> {
    let (mut left, mut rest) = (left.clone(), count);
    while rest > 0 {
        let before = rest;
        for node in from {
            let there = left.get_mut(node)?;
            if rest > 0 && *there >= group {
                *there -= group;
                rest -= group;
            }
        }
        if rest == before {
            return None;
        }
    }
    Some(left)
}

fn unevenness(left: &Left) -> u64 {
    let count = left.len().max(1) as f64;
    let mean = left.values().sum::<usize>() as f64 / count;
    let variance = left.values().map(|cpus| (*cpus as f64 - mean).powi(2)).sum::<f64>() / count;
    (variance.sqrt() * 1000.0).round() as u64
}

/// All choices of so many, in the order of what is chosen from.
fn combinations(all: &[u32], width: usize) -> Vec<Vec<u32>> {
    if width == 0 {
        return vec![Vec::new()];
    }
    let mut found = Vec::new();
    for (index, first) in all.iter().enumerate() {
        for mut rest in combinations(&all[index + 1..], width - 1) {
            rest.insert(0, *first);
            found.push(rest);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::testing::{set, topology},
        *,
    };

    fn spread(topology: &CpuTopology, free: &str, count: usize, group: usize) -> String {
        distribute(topology, &set(free), count, group).expect("there are as many").to_string()
    }

    #[test]
    fn choices_come_in_order() {
        assert_eq!(combinations(&[3, 1, 2], 2), [vec![3, 1], vec![3, 2], vec![1, 2]]);
        assert_eq!((combinations(&[1], 0).len(), combinations(&[1], 2).len()), (1, 0));
    }

    #[test]
    fn what_one_node_does_not_have_is_taken_evenly() {
        // Two nodes of four cores: CPUs 0-3 and 4-7.
        let two = topology(2, 2, 8, 1);
        assert_eq!(spread(&two, "0-7", 4, 1), "0-3", "a node has as many");
        assert_eq!(spread(&two, "0-7", 6, 1), "0-2,4-6");
        assert_eq!(spread(&two, "0-7", 5, 1), "0-2,4-5");
        assert_eq!(spread(&two, "1-7", 4, 1), "4-7");
        assert_eq!(spread(&two, "2-7", 6, 1), "2-7", "they cannot be even");
        let why = distribute(&two, &set("0-3"), 5, 1).expect_err("too many");
        assert_eq!(why, "not enough cpus available to satisfy request: requested=5, available=4");
    }

    #[test]
    fn the_nodes_are_used_that_leave_the_machine_most_even() {
        // Four nodes of two cores: 0-1, 2-3, 4-5, 6-7.
        let four = topology(4, 4, 8, 1);
        assert_eq!(spread(&four, "0,2,4-7", 2, 1), "4-5");
        assert_eq!(spread(&four, "0,2,4-7", 4, 1), "4-7");
        assert_eq!(spread(&four, "0-7", 3, 1), "0-2");
    }

    #[test]
    fn threads_of_a_core_stay_together() {
        // Two nodes of two cores: CPUs 0-1 and 4-5, 2-3 and 6-7.
        let threads = topology(2, 2, 4, 2);
        assert_eq!(spread(&threads, "0-7", 6, 2), "0-2,4-6");
        assert_eq!(spread(&threads, "0-7", 5, 2), take(&threads, &set("0-7"), 5, false).expect("enough").to_string(), "it is no number of cores");
    }

    proptest! {
        #[test]
        fn as_many_free_cpus_are_taken_as_are_asked_for(nodes in 1_u32..5, cores in 1_u32..4, group in 1_usize..3, mask in any::<u32>(), count in 0_usize..26) {
            let machine = topology(nodes, nodes, nodes * cores, 2);
            let free: CpuSet = machine.cpus().iter().filter(|cpu| (mask >> cpu) & 1 == 1).collect();
            match distribute(&machine, &free, count, group) {
                Ok(taken) => {
                    prop_assert_eq!(taken.len(), count);
                    prop_assert!(taken.is_subset(&free));
                }
                Err(_) => prop_assert!(count > free.len()),
            }
        }
    }
}

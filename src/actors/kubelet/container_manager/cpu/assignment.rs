//! Which of the free CPUs a container gets: whole NUMA nodes and sockets first, then whole cores, then what is left of cores that others have
//! begun, so that as few containers as possible share anything. Pure; the order is upstream's (`cpu_assignment.go`).

use super::topology::{CpuTopology, Level};
use crate::kubelet::cpu_set::CpuSet;

/// Takes so many of the free CPUs; with `by_cache` those that share a cache are taken together where that is possible.
///
/// # Errors
/// When there are not as many, in upstream's words.
pub fn take(topology: &CpuTopology, free: &CpuSet, count: usize, by_cache: bool) -> Result<CpuSet, String> {
    if count > free.len() {
        return Err(format!("not enough cpus available to satisfy request: requested={count}, available={}", free.len()));
    }
    let mut taking = Taking { topology, free: free.clone(), taken: CpuSet::default(), needed: count };
    let [outer, inner] = outer_levels(topology);
    taking.take_whole(&[outer]);
    taking.take_whole(&[outer, inner]);
    if by_cache {
        taking.take_by_cache();
    }
    taking.take_whole(&[outer, inner, Level::Core]);
    taking.take_rest();
    Ok(taking.taken)
}

/// NUMA nodes and sockets, that of which there are fewer first.
fn outer_levels(topology: &CpuTopology) -> [Level; 2] {
    if topology.count(Level::Socket) >= topology.count(Level::NumaNode) { [Level::NumaNode, Level::Socket] } else { [Level::Socket, Level::NumaNode] }
}

/// The NUMA nodes that have free CPUs, those of sockets with the fewest first where sockets lie outside, and then those with the fewest.
pub(super) fn nodes_in_order(topology: &CpuTopology, free: &CpuSet) -> Vec<u32> {
    let taking = Taking { topology, free: free.clone(), taken: CpuSet::default(), needed: 0 };
    match outer_levels(topology) {
        [Level::NumaNode, _] => taking.ordered(&[Level::NumaNode]),
        levels => taking.ordered(&levels),
    }
}

struct Taking<'a> {
    topology: &'a CpuTopology,
    free: CpuSet,
    taken: CpuSet,
    needed: usize,
}

impl Taking<'_> {
    /// The parts of the last level that have free CPUs: by the parts of the levels before it in which they lie, then those with the fewest free
    /// CPUs first, then by their numbers.
    fn ordered(&self, levels: &[Level]) -> Vec<u32> {
        let Some((last, above)) = levels.split_last() else { return Vec::new() };
        let sorted = |cpus: &CpuSet| {
            let mut parts: Vec<u32> = self.topology.parts(cpus, *last).into_iter().collect();
            parts.sort_by_key(|part| (self.topology.within(&self.free, *last, *part).len(), *part));
            parts
        };
        match above.last() {
            None => sorted(&self.free),
            Some(level) => {
                let outside = self.ordered(above).into_iter();
                outside.flat_map(|part| sorted(&self.topology.within(&self.free, *level, part))).collect()
            }
        }
    }

    fn take(&mut self, cpus: &CpuSet) {
        self.free = self.free.difference(cpus);
        self.taken = self.taken.union(cpus);
        self.needed = self.needed.saturating_sub(cpus.len());
    }

    /// Takes parts of the last level of which all CPUs are free and needed.
    fn take_whole(&mut self, levels: &[Level]) {
        let Some(last) = levels.last().filter(|_| self.needed > 0) else { return };
        for part in self.ordered(levels) {
            let all = self.topology.within(&self.topology.cpus(), *last, part);
            if all.len() <= self.needed && all.is_subset(&self.free) {
                self.take(&all);
            }
        }
    }

    /// Takes whole caches, and the rest from one cache that has all of it.
    fn take_by_cache(&mut self) {
        let mut levels = vec![Level::NumaNode, Level::UncoreCache];
        if outer_levels(self.topology)[0] == Level::Socket {
            levels.insert(0, Level::Socket);
        }
        let size = self.topology.size(Level::UncoreCache);
        for cache in self.ordered(&levels) {
            if self.needed >= size {
                self.take_whole(&levels);
            }
            if self.needed == 0 {
                return;
            }
            self.take_within_cache(cache);
        }
    }

    /// Takes all that is still needed from cores of one cache, if they have exactly as much.
    fn take_within_cache(&mut self, cache: u32) {
        let per_core = self.topology.size(Level::Core);
        let free = self.topology.within(&self.free, Level::UncoreCache, cache);
        let cores = self.topology.parts(&free, Level::Core).into_iter().take(self.needed.div_ceil(per_core));
        let mut cpus: CpuSet = cores.flat_map(|core| self.topology.within(&self.free, Level::Core, core).0).collect();
        if !self.needed.is_multiple_of(2) && per_core > 1 && cpus.len() > self.needed {
            // Of the last core one thread is needed.
            cpus.0.pop_last();
        }
        if cpus.len() == self.needed {
            self.take(&cpus);
        }
    }

    /// Takes single CPUs, those of cores that are begun first.
    fn take_rest(&mut self) {
        let [outer, inner] = outer_levels(self.topology);
        let cores = self.ordered(&[outer, inner, Level::Core]).into_iter();
        let cpus: Vec<u32> = cores.flat_map(|core| self.topology.within(&self.free, Level::Core, core).0).collect();
        for cpu in cpus {
            if self.needed == 0 {
                return;
            }
            self.take(&CpuSet([cpu].into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::testing::{set, topology},
        *,
    };

    fn taken(topology: &CpuTopology, free: &str, count: usize) -> String {
        take(topology, &set(free), count, false).expect("there are as many").to_string()
    }

    #[test]
    fn cores_sockets_and_begun_cores_are_taken_as_upstream_takes_them() {
        // One socket of four cores, threads 0 and 4 of the first core, and so on.
        let one = topology(1, 1, 4, 2);
        assert_eq!(taken(&one, "0-7", 1), "0");
        assert_eq!(taken(&one, "0-7", 2), "0,4");
        assert_eq!(taken(&one, "0-7", 3), "0-1,4");
        assert_eq!(taken(&one, "1-7", 1), "4", "the core that is begun already");
        assert_eq!(taken(&one, "1-7", 2), "1,5", "a whole core before what is left of one");
        assert_eq!(taken(&one, "0-7", 8), "0-7");
        // Two sockets of three cores: CPUs 0-2 and 6-8, 3-5 and 9-11.
        let two = topology(2, 2, 6, 2);
        assert_eq!(taken(&two, "0-11", 6), "0-2,6-8", "a socket");
        assert_eq!(taken(&two, "1-11", 6), "3-5,9-11", "the one that is whole");
        assert_eq!(taken(&two, "1-11", 2), "1,7", "the socket that is begun");
        assert_eq!(taken(&two, "0-11", 8), "0-3,6-9");
        let why = take(&two, &set("0-3"), 5, false).expect_err("too many");
        assert_eq!(why, "not enough cpus available to satisfy request: requested=5, available=4");
    }

    #[test]
    fn smaller_numa_nodes_are_kept_together_within_a_socket() {
        // One socket of two nodes, each of two cores: CPUs 0-1 and 4-5, 2-3 and 6-7.
        let nodes = topology(1, 2, 4, 2);
        assert_eq!(taken(&nodes, "0-7", 4), "0-1,4-5");
        assert_eq!(taken(&nodes, "0-3,5-7", 4), "2-3,6-7");
        assert_eq!(taken(&nodes, "0-3,5-7", 2), "1,5");
    }

    #[test]
    fn a_cache_is_shared_with_nobody_if_that_can_be() {
        // Two caches of two cores within one node.
        let mut cpus = std::collections::BTreeMap::new();
        for cpu in 0..8 {
            let mut info = *topology(1, 1, 4, 2).info(cpu).expect("a CPU");
            info.uncore_cache = info.core / 2;
            cpus.insert(cpu, info);
        }
        let caches = CpuTopology::new(cpus);
        let by_cache = |free: &str, count: usize| take(&caches, &set(free), count, true).expect("enough").to_string();
        assert_eq!(by_cache("1-7", 4), "2-3,6-7", "a whole cache");
        assert_eq!(taken(&caches, "1-7", 4), "1-2,5-6", "which nobody cares for else");
        assert_eq!(by_cache("1-7", 2), "2,6", "a core of the first cache that has one");
        assert_eq!(by_cache("0-7", 6), "0-2,4-6");
        assert_eq!(by_cache("0-7", 3), "0-1,4");
        assert_eq!(by_cache("0-1,4,6", 4), "0-1,4,6");
    }

    fn shapes() -> impl Strategy<Value = CpuTopology> {
        let shape = |(sockets, nodes, cores, threads): (u32, u32, u32, u32)| topology(sockets, nodes, cores * sockets.max(nodes), threads);
        prop_oneof![Just((1_u32, 1_u32)), Just((2, 2)), Just((1, 2)), Just((2, 1)), Just((2, 4))]
            .prop_flat_map(|(sockets, nodes)| (Just(sockets), Just(nodes), 1_u32..4, 1_u32..3))
            .prop_map(shape)
    }

    fn cases() -> impl Strategy<Value = (CpuTopology, CpuSet, usize, bool)> {
        shapes().prop_flat_map(|topology| {
            let all: Vec<u32> = topology.cpus().iter().collect();
            let some = proptest::sample::subsequence(all.clone(), 0..=all.len());
            (Just(topology), some.prop_map(|cpus| cpus.into_iter().collect::<CpuSet>()), 0_usize..26, any::<bool>())
        })
    }

    proptest! {
        #[test]
        fn as_many_free_cpus_are_taken_as_are_asked_for((topology, free, count, by_cache) in cases()) {
            match take(&topology, &free, count, by_cache) {
                Ok(taken) => {
                    prop_assert_eq!(taken.len(), count);
                    prop_assert!(taken.is_subset(&free));
                }
                Err(_) => prop_assert!(count > free.len()),
            }
        }

        #[test]
        fn whole_cores_are_taken_while_there_are_any((topology, free, count, by_cache) in cases()) {
            let whole = |cpus: &CpuSet, core: u32| topology.within(&topology.cpus(), Level::Core, core).is_subset(cpus);
            let cores = topology.parts(&free, Level::Core).into_iter().filter(|core| whole(&free, *core)).count();
            let per_core = topology.size(Level::Core);
            let Ok(taken) = take(&topology, &free, count, by_cache) else { return Ok(()) };
            if !by_cache {
                let taken_whole = topology.parts(&taken, Level::Core).into_iter().filter(|core| whole(&taken, *core)).count();
                prop_assert!(taken_whole >= cores.min(count / per_core), "{} of {}", taken, free);
            }
        }
    }
}

//! Where the machine's CPUs lie: which are threads of one core, which share a cache, a NUMA node, a socket. Pure; read from what the kernel
//! tells below `/sys/devices/system`.

use std::collections::{BTreeMap, BTreeSet};

use crate::kubelet::cpu_set::CpuSet;

/// A core's last shared cache has this level.
const CACHE_LEVEL: &str = "3";
/// More kinds of caches than any CPU has.
const MOST_CACHES: u32 = 16;

/// Where one CPU lies, by numbers that are unique on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuInfo {
    pub socket: u32,
    pub numa_node: u32,
    pub uncore_cache: u32,
    /// The lowest CPU of the core.
    pub core: u32,
}

/// What CPUs have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Socket,
    NumaNode,
    UncoreCache,
    Core,
}

impl CpuInfo {
    /// The part of a level in which the CPU lies.
    pub fn part(&self, level: Level) -> u32 {
        match level {
            Level::Socket => self.socket,
            Level::NumaNode => self.numa_node,
            Level::UncoreCache => self.uncore_cache,
            Level::Core => self.core,
        }
    }
}

/// The CPUs that are online.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTopology {
    cpus: BTreeMap<u32, CpuInfo>,
}

impl CpuTopology {
    pub fn new(cpus: BTreeMap<u32, CpuInfo>) -> Self {
        CpuTopology { cpus }
    }

    /// Reads it from the files below `/sys/devices/system`; `file` gives a file's text by its path there, `None` when there is no such file.
    ///
    /// # Errors
    /// When the kernel does not tell which CPUs there are, or where they lie.
    pub fn parse(file: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let list = |path: &str| -> Result<CpuSet, String> {
            let text = file(path).ok_or_else(|| format!("/sys/devices/system/{path} is not there"))?;
            CpuSet::parse(text.trim()).map_err(|why| format!("/sys/devices/system/{path}: {why}"))
        };
        let online = list("cpu/online")?;
        let mut numa_nodes = BTreeMap::new();
        // A kernel without NUMA has no nodes: all lies in one.
        let nodes = if file("node/online").is_some() { list("node/online")? } else { CpuSet::default() };
        for node in nodes.iter() {
            numa_nodes.extend(list(&format!("node/node{node}/cpulist"))?.iter().map(|cpu| (cpu, node)));
        }
        let mut cpus = BTreeMap::new();
        for cpu in online.iter() {
            let place = |name: &str| format!("cpu/cpu{cpu}/topology/{name}");
            let siblings = list(&place("core_cpus_list")).or_else(|_| list(&place("thread_siblings_list")))?;
            let core = siblings.intersection(&online).iter().next().unwrap_or(cpu);
            // Some virtual machines tell -1.
            let socket = file(&place("physical_package_id")).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            let numa_node = numa_nodes.get(&cpu).copied().unwrap_or(0);
            let uncore_cache = uncore_cache(&file, cpu).unwrap_or(numa_node);
            cpus.insert(cpu, CpuInfo { socket, numa_node, uncore_cache, core });
        }
        if cpus.is_empty() { Err("no CPU is online".into()) } else { Ok(CpuTopology { cpus }) }
    }

    /// All CPUs.
    pub fn cpus(&self) -> CpuSet {
        self.cpus.keys().copied().collect()
    }

    /// Where a CPU lies.
    pub fn info(&self, cpu: u32) -> Option<&CpuInfo> {
        self.cpus.get(&cpu)
    }

    /// Of some CPUs those that lie in a part of a level.
    pub fn within(&self, cpus: &CpuSet, level: Level, part: u32) -> CpuSet {
        cpus.iter().filter(|cpu| self.part_of(*cpu, level) == Some(part)).collect()
    }

    /// The parts of a level in which some CPUs lie.
    pub fn parts(&self, cpus: &CpuSet, level: Level) -> BTreeSet<u32> {
        cpus.iter().filter_map(|cpu| self.part_of(cpu, level)).collect()
    }

    /// How many parts of a level the machine has.
    pub fn count(&self, level: Level) -> usize {
        self.cpus.values().map(|info| info.part(level)).collect::<BTreeSet<_>>().len()
    }

    /// How many CPUs a part of a level has, on average; 1 at least.
    pub fn size(&self, level: Level) -> usize {
        (self.cpus.len() / self.count(level).max(1)).max(1)
    }

    fn part_of(&self, cpu: u32, level: Level) -> Option<u32> {
        Some(self.cpus.get(&cpu)?.part(level))
    }
}

/// The number of the cache that a CPU shares with others outside its core: its own number, or its lowest CPU on kernels that number none.
fn uncore_cache(file: &impl Fn(&str) -> Option<String>, cpu: u32) -> Option<u32> {
    let place = |index: u32, name: &str| format!("cpu/cpu{cpu}/cache/index{index}/{name}");
    let is_last = |index: &u32| file(&place(*index, "level")).is_some_and(|level| level.trim() == CACHE_LEVEL);
    let index = (0..MOST_CACHES).find(is_last)?;
    if let Some(number) = file(&place(index, "id")).and_then(|text| text.trim().parse().ok()) {
        return Some(number);
    }
    CpuSet::parse(file(&place(index, "shared_cpu_list"))?.trim()).ok()?.iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel tells of a machine whose CPUs lie at these sockets, NUMA nodes, caches and cores.
    fn files(cpus: &[(u32, u32, u32, u32)]) -> BTreeMap<String, String> {
        let mut files = BTreeMap::from([("cpu/online".to_owned(), format!("0-{}\n", cpus.len() - 1))]);
        let numbered = || (0_u32..).zip(cpus);
        let nodes: CpuSet = cpus.iter().map(|(_, node, ..)| *node).collect();
        files.insert("node/online".into(), format!("{nodes}\n"));
        for node in nodes.iter() {
            let of_node: CpuSet = numbered().filter(|(_, (_, of, ..))| *of == node).map(|(cpu, _)| cpu).collect();
            files.insert(format!("node/node{node}/cpulist"), format!("{of_node}\n"));
        }
        for (cpu, (socket, _, cache, core)) in numbered() {
            let siblings: CpuSet = numbered().filter(|(_, (.., of))| of == core).map(|(cpu, _)| cpu).collect();
            files.insert(format!("cpu/cpu{cpu}/topology/core_cpus_list"), format!("{siblings}\n"));
            files.insert(format!("cpu/cpu{cpu}/topology/physical_package_id"), format!("{socket}\n"));
            files.insert(format!("cpu/cpu{cpu}/cache/index0/level"), "1\n".into());
            files.insert(format!("cpu/cpu{cpu}/cache/index1/level"), "3\n".into());
            files.insert(format!("cpu/cpu{cpu}/cache/index1/id"), format!("{cache}\n"));
        }
        files
    }

    fn parse(files: &BTreeMap<String, String>) -> Result<CpuTopology, String> {
        CpuTopology::parse(|path| files.get(path).cloned())
    }

    #[test]
    fn the_kernels_files_tell_where_cpus_lie() {
        // Two sockets of two cores with two threads each, numbered as many machines do: the second threads come last.
        let cpus = [(0, 0, 0, 0), (0, 0, 0, 1), (1, 1, 5, 2), (1, 1, 5, 3), (0, 0, 0, 0), (0, 0, 0, 1), (1, 1, 5, 2), (1, 1, 5, 3)];
        let topology = parse(&files(&cpus)).expect("a topology");
        assert_eq!(topology.info(6), Some(&CpuInfo { socket: 1, numa_node: 1, uncore_cache: 5, core: 2 }));
        let all = topology.cpus();
        assert_eq!(topology.within(&all, Level::Socket, 0).to_string(), "0-1,4-5");
        assert_eq!(topology.within(&all, Level::Core, 3).to_string(), "3,7");
        assert_eq!(topology.parts(&CpuSet::parse("0,2").expect("a set"), Level::NumaNode), [0, 1].into());
        assert_eq!([Level::Socket, Level::NumaNode, Level::UncoreCache, Level::Core].map(|level| topology.count(level)), [2, 2, 2, 4]);
        assert_eq!((topology.size(Level::Core), topology.size(Level::Socket)), (2, 4));
    }

    #[test]
    fn what_the_kernel_does_not_tell_has_a_place_nevertheless() {
        let mut bare = files(&[(0, 0, 0, 0), (0, 0, 0, 1)]);
        bare.retain(|path, _| !path.contains("cache") && !path.starts_with("node"));
        bare.insert("cpu/cpu0/topology/physical_package_id".into(), "-1\n".into());
        let topology = parse(&bare).expect("a topology");
        assert_eq!(topology.info(0), Some(&CpuInfo { socket: 0, numa_node: 0, uncore_cache: 0, core: 0 }));
        // Of a core whose first thread is offline.
        bare.insert("cpu/online".into(), "1\n".into());
        bare.insert("cpu/cpu1/topology/core_cpus_list".into(), "0-1\n".into());
        assert_eq!(parse(&bare).expect("a topology").info(1).map(|info| info.core), Some(1));
    }

    #[test]
    fn a_machine_that_tells_nothing_is_refused() {
        assert_eq!(parse(&BTreeMap::new()), Err("/sys/devices/system/cpu/online is not there".into()));
        let mut odd = files(&[(0, 0, 0, 0)]);
        odd.insert("cpu/online".into(), "x\n".into());
        assert_eq!(parse(&odd), Err("/sys/devices/system/cpu/online: strconv.Atoi: parsing \"x\": invalid syntax".into()));
        odd.insert("cpu/online".into(), "\n".into());
        assert_eq!(parse(&odd), Err("no CPU is online".into()));
    }
}

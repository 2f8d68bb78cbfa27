//! Which parts of the machine containers run on, as upstream's container manager (`pkg/kubelet/cm`): with the policy `static` those of Guaranteed
//! pods that ask for whole CPUs have them for themselves, with the policy `Static` of memory they have theirs on few NUMA nodes, and the topology
//! manager keeps all of it together. With the policies `none` nothing is done, and nothing is asked of the machine.
//!
//! A pod gets its CPUs when it is let in, all of them or none. They are on disk before anything starts with them, and its own until it is gone.

pub mod cpu;
mod go_bool;
pub mod kept;
pub mod memory;
pub mod metrics;
pub mod reconcile;
pub mod refusal;
pub mod topology;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use parking_lot::Mutex;
use troupe_cri::proto::LinuxContainerResources;

use self::{
    cpu::{
        manager::CpuManager,
        options::PolicyOptions,
        policy::{StaticPolicy, exclusive_cpus, in_order},
        state::Assignments,
        topology::{CpuTopology, Level},
    },
    memory::{
        machine::{self, MachineMemory},
        manager::MemoryManager,
        policy::{MemoryPolicy, Reserved, wants},
        state::MemoryState,
    },
    refusal::Refusal,
    topology::{
        Affinity, HintProvider, TopologyManager,
        mask::NumaMask,
        options::{TopologyOptions, TopologyScope},
    },
};
use super::cpu_set::CpuSet;

/// Where the kernel tells of the machine's CPUs.
const SYSTEM: &str = "/sys/devices/system";
/// What has all of its CPUs for itself is not held back on them.
const NO_QUOTA: i64 = -1;

/// What the static policy is told.
#[derive(Clone, Debug, Default)]
pub struct StaticCpus {
    pub options: PolicyOptions,
    /// CPUs that are kept for others than pods, by number; empty for as many as are reserved.
    pub reserved: CpuSet,
    /// How often it is looked whether containers run where they should.
    pub reconcile_period: Duration,
}

/// What the container manager is told.
#[derive(Clone, Debug, Default)]
pub struct ContainerManagerOptions {
    /// `None` for the policy `none`.
    pub static_cpus: Option<StaticCpus>,
    /// What of the memory of each NUMA node is kept for others than pods, in bytes by resource; `None` for the policy `None`.
    pub static_memory: Option<Reserved>,
    /// What is to lie together; `None` for the policy `none`.
    pub topology_manager: Option<TopologyOptions>,
    /// Where CPUs lie. [default: where this machine's do]
    pub topology: Option<CpuTopology>,
    /// How much memory NUMA nodes have. [default: as much as this machine's]
    pub memory: Option<MachineMemory>,
}

/// See the module. The default does nothing.
#[derive(Debug, Default)]
pub struct ContainerManager {
    cpus: Option<Arc<CpuManager>>,
    memory: Option<Arc<MemoryManager>>,
    topology: Option<TopologyManager>,
    /// Where pods' resources are to lie, by uid and container's name, as it was found when they were let in.
    chosen: Mutex<BTreeMap<String, BTreeMap<String, NumaMask>>>,
}

impl ContainerManager {
    /// Goes on where an earlier process ended; so many thousandths of a CPU and bytes of memory are kept for others than pods. Blocking.
    ///
    /// # Errors
    /// When the machine has not what is reserved, or what an earlier process left is of another policy or machine.
    pub fn start(options: &ContainerManagerOptions, root: &Path, (milli_reserved, memory_reserved): (i64, i64)) -> Result<Self, String> {
        let ContainerManagerOptions { static_cpus, static_memory, topology_manager, .. } = options;
        if static_cpus.is_none() {
            CpuManager::check_none(root)?;
        }
        if static_memory.is_none() {
            MemoryManager::check_none(root)?;
        }
        if static_cpus.is_none() && static_memory.is_none() && topology_manager.is_none() {
            return Ok(ContainerManager::default());
        }
        let file = |path: &str| fs::read_to_string(Path::new(SYSTEM).join(path)).ok();
        let machine = match &options.topology {
            Some(topology) => topology.clone(),
            None => CpuTopology::parse(file)?,
        };
        let nodes = machine.parts(&machine.cpus(), Level::NumaNode);
        let distances = |node: u32| file(&format!("node/node{node}/distance"));
        let topology = topology_manager.map(|told| TopologyManager::new(told, &nodes, distances)).transpose()?;
        let mut manager = ContainerManager { topology, ..ContainerManager::default() };
        if let Some(reserved) = static_memory {
            let machine = match &options.memory {
                Some(memory) => memory.clone(),
                None => machine::parse(&nodes, &page_sizes(), file)?,
            };
            let policy = MemoryPolicy::new(&machine, reserved, u64::try_from(memory_reserved).unwrap_or(0))?;
            manager.memory = Some(Arc::new(MemoryManager::start(policy, root)?));
        }
        if let Some(told) = static_cpus {
            let policy = StaticPolicy::new(machine, milli_reserved, &told.reserved, told.options);
            let policy = policy.map_err(|why| format!("new static policy error: {why}"))?;
            manager.cpus = Some(Arc::new(CpuManager::start(policy, root)?));
        }
        Ok(manager)
    }

    /// Who has which CPUs; `None` with the policy `none`.
    pub fn cpus(&self) -> Option<&Arc<CpuManager>> {
        self.cpus.as_ref()
    }

    /// Who has which memory; `None` with the policy `None`.
    pub fn memory(&self) -> Option<&Arc<MemoryManager>> {
        self.memory.as_ref()
    }

    /// Whether the memory of containers is theirs until their pod is gone.
    pub fn has_static_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Gives a pod that is to be let in all CPUs and memory that it is to have for itself, and notes where its devices are to lie. Doing it again
    /// is fine.
    ///
    /// # Errors
    /// When it cannot have it: then it has nothing more than before.
    pub fn admit(&self, pod: &Pod, devices: &dyn HintProvider) -> Result<(), Refusal> {
        let began = Instant::now();
        let outcome = self.try_to_admit(pod, devices);
        metrics::admitted(outcome.is_ok(), began.elapsed());
        outcome
    }

    fn try_to_admit(&self, pod: &Pod, devices: &dyn HintProvider) -> Result<(), Refusal> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        if self.cpus.is_none() && self.memory.is_none() && self.topology.is_none() {
            return Ok(());
        }
        let among = Among { topology: self.topology.as_ref(), devices, pod, spec };
        let chosen = match (&self.cpus, &self.memory) {
            (None, None) => among.allocate(None, None)?,
            (Some(cpus), None) => cpus.change(|assignments| among.allocate(Some((&cpus.policy, assignments)), None))?,
            (None, Some(memory)) => memory.change(|state| among.allocate(None, Some((&memory.policy, state))))?,
            (Some(cpus), Some(memory)) => {
                cpus.change(|assignments| memory.change(|state| among.allocate(Some((&cpus.policy, assignments)), Some((&memory.policy, state)))))?
            }
        };
        if !chosen.is_empty() {
            self.chosen.lock().insert(pod.metadata.uid.clone().unwrap_or_default(), chosen);
        }
        Ok(())
    }

    /// Where the devices of a pod that was let in are to lie.
    pub fn affinity(&self, pod: &str) -> Affinity {
        let nodes = self.chosen.lock().get(pod).cloned().unwrap_or_default();
        Affinity { nodes, strict: self.topology.as_ref().is_some_and(TopologyManager::is_strict) }
    }

    /// Tells a container that is to be made where it runs.
    ///
    /// # Errors
    /// When what it has is not on disk.
    pub async fn place(&self, pod: &str, container: &str, resources: &mut LinuxContainerResources) -> Result<(), String> {
        if let Some(memory) = &self.memory {
            resources.cpuset_mems = memory.place(pod, container).await?.unwrap_or_default();
        }
        let Some(cpus) = &self.cpus else { return Ok(()) };
        cpus.keep().await?;
        resources.cpuset_cpus = cpus.assignments().of_or_shared(pod, container).to_string();
        self.lift_quota(pod, container, resources);
        Ok(())
    }

    /// A container that was placed runs: if others got CPUs of its own meanwhile it has to leave them at once.
    pub fn started(&self, pod: &str, container: &str, placed: &str) {
        if let Some(cpus) = &self.cpus
            && cpus.assignments().of_or_shared(pod, container).to_string() != placed
        {
            cpus.wake();
        }
    }

    /// A container with CPUs of its own is not held back on them, however it is resized.
    pub fn lift_quota(&self, pod: &str, container: &str, resources: &mut LinuxContainerResources) {
        if self.cpus.as_ref().is_some_and(|cpus| cpus.assignments().of(pod, container).is_some()) {
            resources.cpu_quota = NO_QUOTA;
        }
    }

    /// Whether a container of the pod has CPUs of its own.
    pub fn has_own_cpus(&self, pod: &str) -> bool {
        self.cpus.as_ref().is_some_and(|cpus| cpus.assignments().containers.contains_key(pod))
    }

    /// Memory of pods that nobody knows any more is free. Of CPUs the reconciler does it.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        if let Some(memory) = &self.memory {
            memory.retain(is_known);
        }
    }

    /// A pod is gone.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn release(&self, pod: &str) -> Result<(), String> {
        self.chosen.lock().remove(pod);
        if let Some(memory) = &self.memory {
            memory.release(pod).await?;
        }
        match &self.cpus {
            Some(cpus) => cpus.release([pod]).await,
            None => Ok(()),
        }
    }
}

/// The sizes of the machine's huge pages in KiB.
fn page_sizes() -> Vec<u64> {
    let folders = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()).collect()
}

/// The policy of CPUs with who has which.
type Cpus<'a> = Option<(&'a StaticPolicy, &'a mut Assignments)>;
/// The policy of memory with who has what.
type Memory<'a> = Option<(&'a MemoryPolicy, &'a mut MemoryState)>;

/// What is weighed when a pod is let in.
#[derive(Clone, Copy)]
struct Among<'a> {
    topology: Option<&'a TopologyManager>,
    devices: &'a dyn HintProvider,
    pod: &'a Pod,
    spec: &'a PodSpec,
}

impl Among<'_> {
    /// Gives all containers of a pod their CPUs and memory, on the NUMA nodes that the topology manager chooses, which are told.
    fn allocate(self, mut cpus: Cpus<'_>, mut memory: Memory<'_>) -> Result<BTreeMap<String, NumaMask>, Refusal> {
        let Among { topology, devices, pod, spec } = self;
        let strict = topology.is_some_and(TopologyManager::is_strict);
        let mut chosen = BTreeMap::new();
        let scope = topology.map(|topology| (topology, topology.options.scope));
        let mut of_pod = None;
        if let Some((topology, TopologyScope::Pod)) = scope {
            let mut resources = devices.pod_hints(topology.nodes(), pod);
            resources.extend(cpus.as_ref().and_then(|(policy, assignments)| policy.pod_hints(assignments, pod)));
            resources.extend(memory.as_ref().and_then(|(policy, state)| policy.pod_hints(state, pod)));
            of_pod = topology.merge(&resources)?;
        }
        for (container, _) in in_order(spec) {
            let mut nodes = of_pod;
            if let Some((topology, TopologyScope::Container)) = scope {
                let mut resources = devices.hints(topology.nodes(), pod, container);
                resources.extend(cpus.as_ref().and_then(|(policy, assignments)| policy.hints(assignments, pod, container)));
                resources.extend(memory.as_ref().and_then(|(policy, state)| policy.hints(state, pod, container)));
                nodes = topology.merge(&resources)?;
            }
            if let Some((policy, assignments)) = &mut cpus {
                let given = policy.allocate(assignments, pod, container, nodes);
                if exclusive_cpus(pod, container) > 0 {
                    metrics::pinned_cpus(given.is_ok());
                }
                given?;
            }
            if let Some((policy, state)) = &mut memory {
                let given = policy.allocate(state, pod, container, nodes, strict);
                if wants(pod, container) {
                    metrics::pinned_memory(given.is_ok());
                }
                given?;
            }
            chosen.extend(nodes.map(|nodes| (container.name.clone(), nodes)));
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests;

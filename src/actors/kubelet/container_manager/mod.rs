//! Which parts of the machine containers run on, as upstream's container manager (`pkg/kubelet/cm`): with the policy `static` those of Guaranteed
//! pods that ask for whole CPUs have them for themselves, and the topology manager keeps them on NUMA nodes that belong together. With the policy
//! `none` nothing is done, and nothing is asked of the machine.
//!
//! A pod gets its CPUs when it is let in, all of them or none. They are on disk before anything starts with them, and its own until it is gone.

pub mod cpu;
mod go_bool;
pub mod reconcile;
pub mod refusal;
pub mod topology;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use parking_lot::Mutex;
use troupe_cri::proto::LinuxContainerResources;

use self::{
    cpu::{
        manager::CpuManager,
        options::PolicyOptions,
        policy::{StaticPolicy, in_order},
        state::Assignments,
        topology::{CpuTopology, Level},
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
    /// What is to lie together; `None` for the policy `none`.
    pub topology_manager: Option<TopologyOptions>,
    /// Where CPUs lie. [default: where this machine's do]
    pub topology: Option<CpuTopology>,
}

/// See the module. The default does nothing.
#[derive(Debug, Default)]
pub struct ContainerManager {
    cpus: Option<Arc<CpuManager>>,
    topology: Option<TopologyManager>,
    /// Where pods' resources are to lie, by uid and container's name, as it was found when they were let in.
    chosen: Mutex<BTreeMap<String, BTreeMap<String, NumaMask>>>,
}

impl ContainerManager {
    /// Goes on where an earlier process ended; so much (thousandths of a CPU) is kept for others than pods. Blocking.
    ///
    /// # Errors
    /// When the machine has not what is reserved, or what an earlier process left is of another policy or machine.
    pub fn start(options: &ContainerManagerOptions, root: &Path, milli_reserved: i64) -> Result<Self, String> {
        if options.static_cpus.is_none() {
            CpuManager::check_none(root)?;
            if options.topology_manager.is_none() {
                return Ok(ContainerManager::default());
            }
        }
        let file = |path: &str| fs::read_to_string(Path::new(SYSTEM).join(path)).ok();
        let machine = match &options.topology {
            Some(topology) => topology.clone(),
            None => CpuTopology::parse(file)?,
        };
        let nodes = machine.parts(&machine.cpus(), Level::NumaNode);
        let distances = |node: u32| file(&format!("node/node{node}/distance"));
        let topology = options.topology_manager.map(|told| TopologyManager::new(told, &nodes, distances)).transpose()?;
        let Some(told) = &options.static_cpus else {
            return Ok(ContainerManager { topology, ..ContainerManager::default() });
        };
        let policy = StaticPolicy::new(machine, milli_reserved, &told.reserved, told.options);
        let policy = policy.map_err(|why| format!("new static policy error: {why}"))?;
        let cpus = Some(Arc::new(CpuManager::start(policy, root)?));
        Ok(ContainerManager { cpus, topology, chosen: Mutex::default() })
    }

    /// Who has which CPUs; `None` with the policy `none`.
    pub fn cpus(&self) -> Option<&Arc<CpuManager>> {
        self.cpus.as_ref()
    }

    /// Gives a pod that is to be let in all CPUs that it is to have for itself, and notes where its devices are to lie. Doing it again is fine.
    ///
    /// # Errors
    /// When it cannot have it: then it has nothing more than before.
    pub fn admit(&self, pod: &Pod, devices: &dyn HintProvider) -> Result<(), Refusal> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        if self.cpus.is_none() && self.topology.is_none() {
            return Ok(());
        }
        let topology = self.topology.as_ref();
        let chosen = match &self.cpus {
            None => allocate(None, topology, devices, pod, spec)?,
            Some(cpus) => cpus.change(|assignments| allocate(Some((&cpus.policy, assignments)), topology, devices, pod, spec))?,
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

    /// A pod is gone.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn release(&self, pod: &str) -> Result<(), String> {
        self.chosen.lock().remove(pod);
        match &self.cpus {
            Some(cpus) => cpus.release([pod]).await,
            None => Ok(()),
        }
    }
}

/// The policy of CPUs with who has which.
type Cpus<'a> = Option<(&'a StaticPolicy, &'a mut Assignments)>;

/// Gives all containers of a pod their CPUs, on the NUMA nodes that the topology manager chooses, which are told.
fn allocate(
    mut cpus: Cpus<'_>,
    topology: Option<&TopologyManager>,
    devices: &dyn HintProvider,
    pod: &Pod,
    spec: &PodSpec,
) -> Result<BTreeMap<String, NumaMask>, Refusal> {
    let mut chosen = BTreeMap::new();
    let scope = topology.map(|topology| (topology, topology.options.scope));
    let mut of_pod = None;
    if let Some((topology, TopologyScope::Pod)) = scope {
        let mut resources = devices.pod_hints(topology.nodes(), pod);
        resources.extend(cpus.as_ref().and_then(|(policy, assignments)| policy.pod_hints(assignments, pod)));
        of_pod = topology.merge(&resources)?;
    }
    for (container, _) in in_order(spec) {
        let mut nodes = of_pod;
        if let Some((topology, TopologyScope::Container)) = scope {
            let mut resources = devices.hints(topology.nodes(), pod, container);
            resources.extend(cpus.as_ref().and_then(|(policy, assignments)| policy.hints(assignments, pod, container)));
            nodes = topology.merge(&resources)?;
        }
        if let Some((policy, assignments)) = &mut cpus {
            policy.allocate(assignments, pod, container, nodes)?;
        }
        chosen.extend(nodes.map(|nodes| (container.name.clone(), nodes)));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests;

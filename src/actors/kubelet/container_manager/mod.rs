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

use std::{fs, path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
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
        TopologyManager,
        merge::Hint,
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
        let Some(told) = &options.static_cpus else { return Ok(ContainerManager { cpus: None, topology }) };
        let policy = StaticPolicy::new(machine, milli_reserved, &told.reserved, told.options);
        let policy = policy.map_err(|why| format!("new static policy error: {why}"))?;
        Ok(ContainerManager { cpus: Some(Arc::new(CpuManager::start(policy, root)?)), topology })
    }

    /// Who has which CPUs; `None` with the policy `none`.
    pub fn cpus(&self) -> Option<&Arc<CpuManager>> {
        self.cpus.as_ref()
    }

    /// Gives a pod that is to be let in all that it is to have for itself. Doing it again is fine.
    ///
    /// # Errors
    /// When it cannot have it: then it has nothing more than before.
    pub fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        let (Some(cpus), Some(spec)) = (&self.cpus, &pod.spec) else { return Ok(()) };
        cpus.change(|assignments| allocate(&cpus.policy, self.topology.as_ref(), assignments, pod, spec))
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
        match &self.cpus {
            Some(cpus) => cpus.release([pod]).await,
            None => Ok(()),
        }
    }
}

/// Gives all containers of a pod their CPUs, on the NUMA nodes that the topology manager chooses.
fn allocate(
    policy: &StaticPolicy,
    topology: Option<&TopologyManager>,
    assignments: &mut Assignments,
    pod: &Pod,
    spec: &PodSpec,
) -> Result<(), Refusal> {
    let listed = |hints: Option<Vec<Hint>>| [hints.unwrap_or_else(|| vec![Hint::ANY])];
    let scope = topology.map(|topology| (topology, topology.options.scope));
    let of_pod = match scope {
        Some((topology, TopologyScope::Pod)) => topology.merge(&listed(policy.pod_hints(assignments, pod)))?,
        _ => None,
    };
    for (container, _) in in_order(spec) {
        let nodes = match scope {
            Some((topology, TopologyScope::Container)) => topology.merge(&listed(policy.hints(assignments, pod, container)))?,
            _ => of_pod,
        };
        policy.allocate(assignments, pod, container, nodes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

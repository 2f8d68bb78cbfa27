//! What a configuration says of the managers of CPUs and of topology. Pure.

use super::{CpuSet, KubeletConfiguration};
use crate::kubelet::container_manager::{
    ContainerManagerOptions, StaticCpus,
    cpu::options::{PolicyOptions, STATIC},
    topology::options::TopologyOptions,
};

impl KubeletConfiguration {
    /// Which containers have CPUs of their own, and what is to lie together.
    ///
    /// # Errors
    /// When there is no such policy or option, in upstream's words.
    pub fn container_manager(&self) -> Result<ContainerManagerOptions, String> {
        let policy = self.text("cpuManagerPolicy");
        let options = PolicyOptions::parse(policy, &self.map("cpuManagerPolicyOptions"))?;
        let static_cpus = StaticCpus {
            options,
            reserved: CpuSet::parse(self.text("reservedSystemCPUs"))?,
            reconcile_period: self.duration("cpuManagerReconcilePeriod"),
        };
        let (topology, scope) = (self.text("topologyManagerPolicy"), self.text("topologyManagerScope"));
        let topology_manager = TopologyOptions::parse(topology, scope, &self.map("topologyManagerPolicyOptions"))?;
        Ok(ContainerManagerOptions { static_cpus: (policy == STATIC).then_some(static_cpus), topology_manager, topology: None })
    }
}

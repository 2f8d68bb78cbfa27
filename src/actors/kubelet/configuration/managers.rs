//! What a configuration says of the managers of CPUs, of memory and of topology. Pure.

use serde_json::Value;
use troupe_api::meta::Quantity;

use super::{CpuSet, KubeletConfiguration};
use crate::kubelet::container_manager::{
    ContainerManagerOptions, StaticCpus,
    cpu::options::{PolicyOptions, STATIC},
    memory::{self, machine::MEMORY, policy::Reserved},
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
        let static_memory = match self.text("memoryManagerPolicy") {
            memory::NONE => None,
            memory::STATIC => Some(self.reserved_memory()?),
            odd => return Err(format!("unknown policy: {odd:?}")),
        };
        let static_cpus = (policy == STATIC).then_some(static_cpus);
        Ok(ContainerManagerOptions { static_cpus, static_memory, topology_manager, ..ContainerManagerOptions::default() })
    }

    /// What of the memory of each NUMA node is kept for others than pods.
    ///
    /// # Errors
    /// When it is nothing, stands twice, or is no memory, in upstream's words.
    fn reserved_memory(&self) -> Result<Reserved, String> {
        let mut reserved = Reserved::new();
        for entry in self.value("reservedMemory").as_array().into_iter().flatten() {
            let number = entry["numaNode"].as_i64().unwrap_or(0);
            let node = u32::try_from(number).map_err(|_| format!("the reserved memory of NUMA node {number} is that of no node"))?;
            for (name, amount) in entry["limits"].as_object().into_iter().flatten() {
                if name != MEMORY && !name.starts_with("hugepages-") {
                    let known = "[memory hugepages-<HugePageSize>]";
                    return Err(format!("the limit type {name:?} for NUMA node {node} is not supported, only {known} is accepted"));
                }
                let text = amount.as_str().map_or_else(|| Value::to_string(amount), str::to_owned);
                let bytes = Quantity::parse(&text).map_err(|error| format!("reservedMemory: {text:?}: {error}"))?.value();
                let bytes = u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
                let bytes = bytes.ok_or_else(|| format!("reserved memory may not be zero for NUMA node {node} and resource {name:?}"))?;
                if reserved.entry(node).or_default().insert(name.clone(), bytes).is_some() {
                    return Err(format!("the reserved memory has a duplicate value for NUMA node {node} and resource {name:?}"));
                }
            }
        }
        Ok(reserved)
    }
}

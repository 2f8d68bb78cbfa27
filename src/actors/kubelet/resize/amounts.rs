//! CPU and memory of containers and pods as numbers: what a resize compares and changes.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use serde::{Deserialize, Serialize};
use troupe_cri::{
    proto::LinuxContainerResources,
    quantity::{milli_value, value},
    resources::{CpuTime, cpu_shares, pod_resources, qos_class},
};

type List = BTreeMap<String, Quantity>;

/// What one container asks for and may use; 0 where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu_request: i64,
    pub cpu_limit: i64,
    /// Bytes.
    pub memory_request: i64,
    pub memory_limit: i64,
}

/// Which of the two resources a step changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Memory,
    Cpu,
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Cpu => "cpu",
        }
    }
}

impl Amounts {
    /// A container's amounts; its pod's limits bind it where it has none of its own.
    pub fn of(container: &Container, spec: &PodSpec) -> Self {
        let own = container.resources.as_ref();
        let requests = own.and_then(|own| own.requests.as_ref());
        let limits = own.and_then(|own| own.limits.as_ref());
        let whole = spec.resources.as_ref().and_then(|whole| whole.limits.as_ref());
        let request = |name: &str, number: fn(&str) -> i64| number_in(requests, name, number).or_else(|| number_in(limits, name, number));
        let limit = |name: &str, number: fn(&str) -> i64| {
            let own = number_in(limits, name, number).filter(|limit| *limit != 0);
            own.or_else(|| number_in(whole, name, number))
        };
        Amounts {
            cpu_request: request("cpu", milli_value).unwrap_or(0),
            cpu_limit: limit("cpu", milli_value).unwrap_or(0),
            memory_request: request("memory", value).unwrap_or(0),
            memory_limit: limit("memory", value).unwrap_or(0),
        }
    }

    /// Request and limit of one resource.
    pub fn of_resource(&self, resource: Resource) -> (i64, i64) {
        match resource {
            Resource::Memory => (self.memory_request, self.memory_limit),
            Resource::Cpu => (self.cpu_request, self.cpu_limit),
        }
    }

    /// The same with one resource of `other`.
    pub fn with(self, resource: Resource, other: Amounts) -> Self {
        match resource {
            Resource::Memory => Amounts { memory_request: other.memory_request, memory_limit: other.memory_limit, ..self },
            Resource::Cpu => Amounts { cpu_request: other.cpu_request, cpu_limit: other.cpu_limit, ..self },
        }
    }

    /// What the runtime is told.
    pub fn to_runtime(self, cpu_time: CpuTime) -> LinuxContainerResources {
        let mut resources =
            LinuxContainerResources { cpu_shares: cpu_shares(self.cpu_request), memory_limit_in_bytes: self.memory_limit, ..Default::default() };
        cpu_time.bind(&mut resources, self.cpu_limit);
        resources
    }
}

fn number_in(list: Option<&List>, name: &str, number: fn(&str) -> i64) -> Option<i64> {
    list?.get(name).map(|quantity| number(&quantity.0))
}

/// What a pod's cgroup holds; 0 for a limit that is not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodAmounts {
    /// Bytes.
    pub memory: i64,
    /// Microseconds in each period of 100 ms, whatever the node's own period is.
    pub cpu_quota: i64,
    pub cpu_shares: i64,
}

impl PodAmounts {
    /// What a pod of this spec gets.
    pub fn of(pod: &Pod, spec: &PodSpec) -> Self {
        let all = pod_resources(spec, CpuTime::default());
        match qos_class(pod) {
            "BestEffort" => PodAmounts { memory: 0, cpu_quota: 0, cpu_shares: cpu_shares(0) },
            _ => PodAmounts { memory: all.memory_limit_in_bytes, cpu_quota: all.cpu_quota, cpu_shares: all.cpu_shares },
        }
    }
}

/// What a pod's cgroup and containers have, as far as this kubelet set it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actuated {
    pub pod: PodAmounts,
    /// By name of the container that was started or changed last.
    pub containers: BTreeMap<String, Amounts>,
}

impl Actuated {
    /// Everything as the spec says.
    pub fn as_specified(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Actuated::default() };
        let containers = resizable(spec).map(|container| (container.name.clone(), Amounts::of(container, spec)));
        Actuated { pod: PodAmounts::of(pod, spec), containers: containers.collect() }
    }
}

/// The containers that a resize may change: all but ephemeral ones.
pub fn resizable(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Whether both ask for the same CPU and memory, however that is written.
pub fn same_amounts(one: Option<&ResourceRequirements>, other: Option<&ResourceRequirements>) -> bool {
    ["cpu", "memory"].into_iter().all(|name| same_amount(name, one, other))
}

/// The same of one resource.
pub fn same_amount(name: &str, one: Option<&ResourceRequirements>, other: Option<&ResourceRequirements>) -> bool {
    let lists = |of: Option<&ResourceRequirements>| of.map(|of| (of.requests.clone(), of.limits.clone())).unwrap_or_default();
    let ((requests, limits), (other_requests, other_limits)) = (lists(one), lists(other));
    let milli = |list: &Option<List>| list.as_ref()?.get(name).map(|quantity| troupe_cri::quantity::milli(&quantity.0));
    milli(&requests) == milli(&other_requests) && milli(&limits) == milli(&other_limits)
}

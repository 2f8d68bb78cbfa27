//! What is told of pods and of the node, of what those know who give it out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::proto::{AllocatableResponse, ClaimResource, ContainerResources, Devices, DynamicResource, ListResponse, Memory, PodResources};
use crate::{
    kubelet::{
        container_manager::{
            cpu::manager::CpuManager,
            memory::{manager::MemoryManager, state::Block},
        },
        cpu_set::CpuSet,
        device_plugins::{
            DevicePlugins, Located,
            proto::{CdiDevice, NumaNode, Topology},
        },
        dra::{ClaimInfo, Dra},
    },
    pod_phase::is_finished,
};

/// The pods of this node; none while they are not known.
pub type NodePods = Arc<dyn Fn() -> Vec<Arc<Pod>> + Send + Sync>;

/// Who is asked. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    pub pods: NodePods,
    pub devices: Arc<DevicePlugins>,
    /// `None` where no container has CPUs of its own.
    pub cpus: Option<Arc<CpuManager>>,
    /// The same of memory.
    pub memory: Option<Arc<MemoryManager>>,
    pub dra: Arc<Dra>,
}

impl Sources {
    /// What all pods have that have not ended.
    pub fn list(&self) -> ListResponse {
        let active = (self.pods)().into_iter().filter(|pod| !is_finished(pod));
        ListResponse { pods: active.map(|pod| self.of_pod(&pod)).collect() }
    }

    /// What all pods have, as the first version of the service (`v1alpha1`) tells it: the devices of main containers. Its messages are those of
    /// the next version with less in them.
    pub fn list_alpha(&self) -> ListResponse {
        let of_container = |pod: &Pod, container: &Container| {
            let devices = self.devices.of_container(pod.metadata.uid.as_deref().unwrap_or_default(), &container.name);
            let devices = devices.into_iter().map(|device| Devices { resource_name: device.resource, ids: vec![device.id], topology: None });
            ContainerResources { name: container.name.clone(), devices: devices.collect(), ..ContainerResources::default() }
        };
        let of_pod = |pod: Arc<Pod>| PodResources {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            containers: pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| of_container(&pod, container)).collect(),
        };
        ListResponse { pods: (self.pods)().into_iter().map(of_pod).collect() }
    }

    /// What one pod has.
    ///
    /// # Errors
    /// There is none of that name, or it has ended.
    pub fn get(&self, namespace: &str, name: &str) -> Result<PodResources, String> {
        let is = |pod: &Arc<Pod>| pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name);
        let found = (self.pods)().into_iter().find(|pod| is(pod) && !is_finished(pod));
        found.map(|pod| self.of_pod(&pod)).ok_or_else(|| format!("pod {name} in namespace {namespace} not found"))
    }

    /// What pods can have on this node, whoever has it.
    pub fn allocatable(&self) -> AllocatableResponse {
        let state = self.memory.as_ref().map(|memory| memory.state());
        let tables =
            state.iter().flat_map(|state| &state.nodes).flat_map(|(node, of_node)| of_node.memory_map.iter().map(move |table| (*node, table)));
        let memory = tables.filter(|(_, (_, table))| table.allocatable > 0).map(|(node, (resource, table))| Memory {
            kind: resource.clone(),
            size: table.allocatable,
            topology: Some(topology([node])),
        });
        AllocatableResponse {
            devices: self.devices.usable().into_iter().flat_map(devices).collect(),
            cpu_ids: self.cpus.as_ref().map(|cpus| numbers(&cpus.policy.allocatable())).unwrap_or_default(),
            memory: memory.collect(),
        }
    }

    /// Of containers those that run as long as the pod does.
    fn of_pod(&self, pod: &Pod) -> PodResources {
        let spec = pod.spec.iter();
        let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        let containers = spec.flat_map(|spec| spec.init_containers.iter().flatten().filter(stays).chain(&spec.containers));
        PodResources {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            containers: containers.map(|container| self.of_container(pod, container)).collect(),
        }
    }

    fn of_container(&self, pod: &Pod, container: &Container) -> ContainerResources {
        let (uid, name) = (pod.metadata.uid.as_deref().unwrap_or_default(), container.name.as_str());
        let cpus = self.cpus.as_ref().map(|cpus| cpus.assignments());
        let memory = self.memory.as_ref().map(|memory| memory.state());
        let blocks = memory.iter().filter_map(|memory| memory.entries.get(uid)?.get(name)).flatten();
        ContainerResources {
            name: name.to_owned(),
            devices: self.devices.of_container(uid, name).into_iter().flat_map(devices).collect(),
            cpu_ids: cpus.and_then(|cpus| cpus.of(uid, name).map(numbers)).unwrap_or_default(),
            memory: blocks.map(memory_of).collect(),
            dynamic_resources: self.dra.claims_of_container(pod, container).into_iter().map(dynamic_resource).collect(),
        }
    }
}

fn numbers(cpus: &CpuSet) -> Vec<i64> {
    cpus.iter().map(i64::from).collect()
}

fn topology(nodes: impl IntoIterator<Item = u32>) -> Topology {
    Topology { nodes: nodes.into_iter().map(|node| NumaNode { id: node.into() }).collect() }
}

/// A device once for each of its NUMA nodes, as upstream tells it.
fn devices(device: Located) -> Vec<Devices> {
    let of = |topology| Devices { resource_name: device.resource.clone(), ids: vec![device.id.clone()], topology };
    match device.nodes.filter(|nodes| !nodes.is_empty()) {
        Some(nodes) => nodes.nodes().map(|node| of(Some(topology([node])))).collect(),
        None => vec![of(None)],
    }
}

fn memory_of(block: &Block) -> Memory {
    Memory { kind: block.resource.clone(), size: block.size, topology: Some(topology(block.nodes.iter().copied())) }
}

fn dynamic_resource(claim: ClaimInfo) -> DynamicResource {
    let of_driver = claim.driver_state.into_iter().flat_map(|(driver, state)| {
        state.devices.into_iter().flatten().map(move |device| ClaimResource {
            cdi_devices: device.cdi_device_ids.into_iter().flatten().map(|name| CdiDevice { name }).collect(),
            driver_name: driver.clone(),
            pool_name: device.pool_name,
            device_name: device.device_name,
            share_id: device.share_id,
        })
    });
    DynamicResource { claim_resources: of_driver.collect(), claim_name: claim.name, claim_namespace: claim.namespace }
}

//! Device plugins (v1beta1, KEP-3573): plugins register at `device-plugins/kubelet.sock`, tell of their devices without end, and say what
//! a container needs that gets some. Their resources are the node's; the scheduler counts them.
//!
//! Who has which devices is on disk, so that after a restart nobody else gets them.

mod health;
mod hints;
mod located;
pub mod proto;
mod server;
mod state;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceStatus};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use troupe_cri::proto as cri;
use troupe_unix_grpc::{Service, words};

pub use self::{located::Located, server::DevicePluginServer};
use self::{
    proto::{AllocateRequest, AllocateResponse, ContainerResponse, DeviceIds, Empty, Options, PreferredOf, PreferredRequest, PreferredResponse},
    state::{Choice, Held, Kept, State},
};
use super::{
    checkpoint::Checkpoint,
    container_manager::topology::{Affinity, HintProvider, mask::NumaMask, merge::Hint},
    device_metrics as metrics,
};
use crate::files::blocking;

/// The directory of the sockets, below the kubelet's root.
pub const DIRECTORY: &str = "device-plugins";
const FILE: &str = "device_plugins_state";
/// How long a plugin may take for one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// A plugin that is there.
#[derive(Clone)]
struct Plugin {
    service: Service,
    options: Options,
    /// Which registration it is.
    number: u64,
}

/// See the module.
pub struct DevicePlugins {
    directory: PathBuf,
    checkpoint: Checkpoint,
    state: Mutex<State>,
    plugins: Mutex<BTreeMap<String, Plugin>>,
    /// One allocation at a time: two containers never choose the same devices.
    turn: tokio::sync::Mutex<()>,
    /// A plugin said something of its devices, or is gone.
    told: Notify,
}

impl DevicePlugins {
    /// Reads who had what before. Blocking.
    pub fn new(root: &Path) -> Self {
        let directory = root.join(DIRECTORY);
        let checkpoint = Checkpoint::new(directory.join(FILE));
        let kept = checkpoint.read::<Kept>().unwrap_or_default();
        let state = Mutex::new(State::restored(kept, Instant::now()));
        DevicePlugins { directory, checkpoint, state, plugins: Mutex::default(), turn: tokio::sync::Mutex::default(), told: Notify::new() }
    }

    /// How many devices there are of each resource, and how many can be used.
    pub fn amounts(&self) -> BTreeMap<String, (usize, usize)> {
        self.state.lock().amounts(Instant::now())
    }

    /// What a container of a pod has.
    pub fn of_container(&self, pod: &str, container: &str) -> Vec<Located> {
        self.state.lock().of_container(pod, container)
    }

    /// How the devices of a pod are, by container.
    pub fn health(&self, pod: &str) -> BTreeMap<String, Vec<ResourceStatus>> {
        self.state.lock().health(pod)
    }

    /// Waits until a plugin says something of its devices, and gives the uids of the pods that have some. For one who waits.
    pub async fn changed(&self) -> BTreeSet<String> {
        self.told.notified().await;
        self.state.lock().holders()
    }

    /// All devices that can be used, whoever has them.
    pub fn usable(&self) -> Vec<Located> {
        self.state.lock().usable()
    }

    /// Chooses devices for all containers of a pod that have none yet, those of the NUMA nodes that the topology manager chose. Doing it again is
    /// fine.
    ///
    /// # Errors
    /// Why there are none, as upstream words it.
    pub async fn allocate(self: &Arc<Self>, pod: &Pod, affinity: &Affinity) -> Result<(), String> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let containers: Vec<&Container> = spec.init_containers.iter().flatten().chain(&spec.containers).collect();
        let asks = |container: &&Container| !self.state.lock().asked(container).is_empty();
        if !containers.iter().any(asks) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        for container in containers {
            let asked = self.state.lock().asked(container);
            for (resource, count) in asked {
                self.allocate_one(pod, &container.name, (resource.as_str(), count), affinity)
                    .await
                    .map_err(|why| format!("Allocate failed due to {why}, which is unexpected"))?;
            }
        }
        Ok(())
    }

    async fn allocate_one(self: &Arc<Self>, pod: &Pod, container: &str, (resource, count): (&str, usize), affinity: &Affinity) -> Result<(), String> {
        let mut choice = self.state.lock().choose(pod, container, resource, count)?;
        if let Some(nodes) = affinity.nodes.get(container) {
            choice = self.state.lock().near(resource, choice, *nodes, affinity.strict)?;
        }
        let Choice::Of { must, available, count } = choice else { return Ok(()) };
        let plugin = self.plugins.lock().get(resource).cloned().ok_or_else(|| format!("unknown Device Plugin {resource}"))?;
        let devices = preferred(&plugin, must, available, count).await?;
        let request = AllocateRequest { container_requests: vec![DeviceIds { ids: devices.iter().cloned().collect() }] };
        let begun = Instant::now();
        let answer: Result<AllocateResponse, _> = plugin.service.ask("/v1beta1.DevicePlugin/Allocate", request).await;
        metrics::allocated(resource, begun.elapsed());
        let answer = answer.map_err(|status| words(&status))?;
        let response = answer.container_responses.into_iter().next().ok_or("no containers return in allocation response")?;
        let key = (pod.metadata.uid.clone().unwrap_or_default(), container.to_owned(), resource.to_owned());
        self.state.lock().held.insert(key, Held { devices, response });
        self.keep().await
    }

    /// What a container is started with, after its plugins were told if they want to be.
    ///
    /// # Errors
    /// A plugin cannot get its devices ready.
    pub async fn start(&self, pod: &Pod, container: &Container) -> Result<Vec<ContainerResponse>, String> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut responses = Vec::new();
        let asked = self.state.lock().asked(container);
        for (resource, _) in asked {
            let held = self.state.lock().held.get(&(uid.clone(), container.name.clone(), resource.clone())).cloned();
            let held = held.ok_or_else(|| format!("no devices of {resource} are allocated"))?;
            let plugin = self.plugins.lock().get(&resource).cloned();
            if let Some(plugin) = plugin.filter(|plugin| plugin.options.pre_start_required) {
                let request = DeviceIds { ids: held.devices.iter().cloned().collect() };
                let started: Result<Empty, _> = plugin.service.ask("/v1beta1.DevicePlugin/PreStartContainer", request).await;
                started.map_err(|status| format!("device plugin PreStartContainer rpc failed with err: {}", words(&status)))?;
            }
            responses.push(held.response);
        }
        Ok(responses)
    }

    /// What a pod had is free again.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn release(self: &Arc<Self>, pod: &str) -> Result<(), String> {
        if self.state.lock().release(pod) { self.keep().await } else { Ok(()) }
    }

    async fn keep(self: &Arc<Self>) -> Result<(), String> {
        let plugins = self.clone();
        let kept = blocking(move || {
            let kept = plugins.state.lock().kept();
            plugins.checkpoint.write(&kept)
        });
        kept.await.map_err(|error| format!("failed to write checkpoint file {FILE:?}: {error}"))
    }
}

impl HintProvider for DevicePlugins {
    fn hints(&self, machine: NumaMask, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        self.state.lock().hints(machine, pod, container)
    }

    fn pod_hints(&self, machine: NumaMask, pod: &Pod) -> Vec<Vec<Hint>> {
        self.state.lock().pod_hints(machine, pod)
    }
}

/// The devices that a plugin would rather give, filled up with others.
async fn preferred(plugin: &Plugin, must: BTreeSet<String>, available: BTreeSet<String>, count: usize) -> Result<BTreeSet<String>, String> {
    let mut chosen = must.clone();
    if plugin.options.get_preferred_allocation_available && chosen.len() < count && available.len() > count {
        let of = PreferredOf {
            available: available.iter().cloned().collect(),
            must_include: must.into_iter().collect(),
            size: i32::try_from(count).unwrap_or(i32::MAX),
        };
        let request = PreferredRequest { container_requests: vec![of] };
        let answer: Result<PreferredResponse, _> = plugin.service.ask("/v1beta1.DevicePlugin/GetPreferredAllocation", request).await;
        let answer = answer.map_err(|status| format!("device plugin GetPreferredAllocation rpc failed with err: {}", words(&status)))?;
        let ids = answer.container_responses.into_iter().flat_map(|response| response.ids).filter(|id| available.contains(id));
        for id in ids {
            if chosen.len() < count {
                chosen.insert(id);
            }
        }
    }
    for id in available {
        if chosen.len() < count {
            chosen.insert(id);
        }
    }
    Ok(chosen)
}

/// Gives a container what its plugins say. What stands in the spec goes first.
pub fn apply(responses: Vec<ContainerResponse>, config: &mut cri::ContainerConfig) {
    for response in responses {
        let mut envs: Vec<(String, String)> = response.envs.into_iter().collect();
        envs.sort();
        let is_new = |key: &str, known: &[cri::KeyValue]| !known.iter().any(|known| known.key == key);
        for (key, value) in envs {
            if is_new(&key, &config.envs) {
                config.envs.push(cri::KeyValue { key, value });
            }
        }
        config.mounts.extend(response.mounts.into_iter().map(|mount| cri::Mount {
            container_path: mount.container_path,
            host_path: mount.host_path,
            readonly: mount.read_only,
            ..cri::Mount::default()
        }));
        config.devices.extend(response.devices.into_iter().map(|device| cri::Device {
            container_path: device.container_path,
            host_path: device.host_path,
            permissions: device.permissions,
        }));
        for (key, value) in response.annotations {
            config.annotations.entry(key).or_insert(value);
        }
        config.cdi_devices.extend(response.cdi_devices.into_iter().map(|device| cri::CdiDevice { name: device.name }));
    }
}

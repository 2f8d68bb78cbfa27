//! Devices by resource, and who has which. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::proto::{self, ContainerResponse, HEALTHY};
use crate::kubelet::container_manager::topology::mask::NumaMask;

/// How long a resource is told of when its plugin is gone.
const GRACE: Duration = Duration::from_secs(300);

/// What a plugin offers.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// Whether each device is well.
    pub devices: BTreeMap<String, bool>,
    /// The NUMA nodes of devices that have some.
    pub nodes: BTreeMap<String, NumaMask>,
    /// Since when its plugin is gone.
    pub gone: Option<Instant>,
}

/// What a container has of a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub devices: BTreeSet<String>,
    pub response: ContainerResponse,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub resources: BTreeMap<String, Resource>,
    /// By pod, container and resource.
    pub held: BTreeMap<(String, String, String), Held>,
    /// Resources that are gone: the node has none of them.
    forgotten: BTreeSet<String>,
}

/// What is kept for the next process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    resources: Vec<String>,
    held: Vec<(String, String, String, Held)>,
}

/// What is to be allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The container has it.
    Nothing,
    /// Any `count` of these, those that must be in it first.
    Of { must: BTreeSet<String>, available: BTreeSet<String>, count: usize },
}

impl State {
    /// A plugin told of all of its devices.
    pub fn set(&mut self, resource: &str, devices: &[proto::Device]) {
        let placed = devices.iter().filter_map(|device| Some((device.id.clone(), device.topology.as_ref()?)));
        let placed = placed.filter(|(_, topology)| !topology.nodes.is_empty());
        let of = |topology: &proto::Topology| topology.nodes.iter().filter_map(|node| u32::try_from(node.id).ok()).collect::<NumaMask>();
        let nodes = placed.map(|(id, topology)| (id, of(topology))).collect();
        let devices = devices.iter().map(|device| (device.id.clone(), device.health == HEALTHY)).collect();
        self.resources.insert(resource.to_owned(), Resource { devices, nodes, gone: None });
        self.forgotten.remove(resource);
    }

    /// A plugin is gone: nothing of it can be used.
    pub fn stop(&mut self, resource: &str, now: Instant) {
        if let Some(known) = self.resources.get_mut(resource) {
            known.devices.values_mut().for_each(|is_well| *is_well = false);
            known.gone.get_or_insert(now);
        }
    }

    /// How many there are of each resource, and how many can be used. What has been gone for long is not there.
    pub fn amounts(&mut self, now: Instant) -> BTreeMap<String, (usize, usize)> {
        let is_over = |resource: &Resource| resource.gone.is_some_and(|since| now.duration_since(since) >= GRACE);
        let over: Vec<String> = self.resources.iter().filter(|(_, resource)| is_over(resource)).map(|(name, _)| name.clone()).collect();
        for name in over {
            self.resources.remove(&name);
            self.forgotten.insert(name);
        }
        let known = self.resources.iter().map(|(name, resource)| {
            let well = resource.devices.values().filter(|is_well| **is_well).count();
            (name.clone(), (resource.devices.len(), well))
        });
        known.chain(self.forgotten.iter().map(|name| (name.clone(), (0, 0)))).collect()
    }

    /// What of a resource a container still needs.
    ///
    /// # Errors
    /// It cannot be had, as upstream words it.
    pub fn choose(&self, pod: &Pod, container: &str, resource: &str, required: usize) -> Result<Choice, String> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let held = self.held.get(&(uid.to_owned(), container.to_owned(), resource.to_owned())).map(|held| &held.devices);
        if let Some(held) = held.filter(|held| held.len() != required) {
            let had = held.len();
            return Err(format!("pod {uid:?} container {container:?} changed request for resource {resource:?} from {had} to {required}"));
        }
        let known = self.resources.get(resource).ok_or_else(|| format!("cannot allocate unregistered device {resource}"))?;
        let well: BTreeSet<String> = known.devices.iter().filter(|(_, is_well)| **is_well).map(|(id, _)| id.clone()).collect();
        if well.is_empty() {
            return Err(format!("no healthy devices present; cannot allocate unhealthy devices {resource}"));
        }
        if let Some(held) = held {
            if !held.is_subset(&well) {
                return Err(format!("previously allocated devices are no longer healthy; cannot allocate unhealthy devices {resource}"));
            }
            return Ok(Choice::Nothing);
        }
        let (reusable, taken) = self.of_others(pod, uid, container, resource);
        let must: BTreeSet<String> = reusable.intersection(&well).take(required).cloned().collect();
        let available: BTreeSet<String> = well.iter().filter(|id| must.contains(*id) || !taken.contains(*id)).cloned().collect();
        if available.len() < required {
            let left = available.len();
            return Err(format!("requested number of devices unavailable for {resource}. Requested: {required}, Available: {left}"));
        }
        Ok(Choice::Of { must, available, count: required })
    }

    /// What init containers of the pod had and need no more, and what is taken.
    pub(super) fn of_others(&self, pod: &Pod, uid: &str, container: &str, resource: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let ends = |name: &str| init.iter().any(|init| init.name == name && init.restart_policy.as_deref() != Some("Always"));
        let of_resource = || self.held.iter().filter(|((_, _, of), _)| of == resource);
        let is_other = |of_pod: &str, of: &str| of_pod != uid || !ends(of) && of != container;
        let taken: BTreeSet<String> =
            of_resource().filter(|((of_pod, of, _), _)| is_other(of_pod, of)).flat_map(|(_, held)| held.devices.iter().cloned()).collect();
        let ended = of_resource().filter(|((of_pod, of, _), _)| of_pod == uid && of != container && ends(of));
        let reusable = ended.flat_map(|(_, held)| held.devices.iter().cloned()).filter(|id| !taken.contains(id)).collect();
        (reusable, taken)
    }

    /// What a pod had is free.
    pub fn release(&mut self, pod: &str) -> bool {
        let before = self.held.len();
        self.held.retain(|(of, _, _), _| of != pod);
        self.held.len() < before
    }

    pub fn kept(&self) -> Kept {
        let held = self.held.iter().map(|((pod, container, resource), held)| (pod.clone(), container.clone(), resource.clone(), held.clone()));
        Kept { resources: self.resources.keys().cloned().collect(), held: held.collect() }
    }
}

impl State {
    /// As a process before this one left it. Its plugins have to come back.
    pub fn restored(kept: Kept, now: Instant) -> Self {
        let gone = || Resource { gone: Some(now), ..Resource::default() };
        State {
            resources: kept.resources.into_iter().map(|name| (name, gone())).collect(),
            held: kept.held.into_iter().map(|(pod, container, resource, held)| ((pod, container, resource), held)).collect(),
            forgotten: BTreeSet::new(),
        }
    }

    /// The resources of plugins that a container asks for.
    pub fn asked(&self, container: &Container) -> Vec<(String, usize)> {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let counted = limits.into_iter().flatten().map(|(name, amount)| (name.clone(), troupe_cri::quantity::value(&amount.0)));
        let known = counted.filter(|(name, count)| *count > 0 && self.resources.contains_key(name));
        known.filter_map(|(name, count)| Some((name, usize::try_from(count).ok()?))).collect()
    }
}

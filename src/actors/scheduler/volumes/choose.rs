//! Which nodes a pod's claims allow, and which volumes it would take there. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Storage, reaches};
use crate::storage::{
    NO_PROVISIONER, SELECTED_NODE, annotation, capacity, claim_phase, claims_of, class_of_claim, is_for_pod, is_fully_bound,
    matching::{Search, best_match},
    request, volume_name, waits_for_consumer,
};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, TopologySelectorTerm},
    storage::v1::{CSIStorageCapacity, StorageClass},
};
use troupe_api::meta::{LabelSelector, Quantity};

/// Events of these words are what people and programs look for.
const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const NO_ROOM: &str = "node(s) did not have enough free storage";
const VOLUME_MISSING: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
/// The same of other plugins.
pub const ZONE_CONFLICT: &str = "node(s) had no available volume zone";
pub const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";

/// Labels of volumes that say in which zone or region they can be used, and what nodes call the older ones today.
const TOPOLOGY: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];
/// What stands between the zones of a volume that several zones have.
const ZONES: &str = "__";

/// What a pod's claims are.
#[derive(Clone, Debug, Default)]
pub struct PodVolumes {
    /// Volumes of claims that are bound; `None` for one that does not exist.
    bound: Vec<Option<Arc<PersistentVolume>>>,
    /// Claims that wait for a node.
    unbound: Vec<Unbound>,
}

#[derive(Clone, Debug)]
struct Unbound {
    claim: Arc<PersistentVolumeClaim>,
    class: Arc<StorageClass>,
    candidates: Vec<Arc<PersistentVolume>>,
    /// Where its driver has room for it; `None` where it does not tell.
    room: Option<Vec<Room>>,
}

/// Room that a driver has.
#[derive(Clone, Debug)]
struct Room {
    /// The nodes that reach it.
    nodes: LabelSelector,
    /// In bytes; 0 where the driver tells the size of the largest volume alone.
    capacity: i64,
}

/// What a pod asks for of a class, and what there is of it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub requested: i64,
    pub capacity: i64,
}

/// What is done about a pod's claims when it gets a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Claims with volumes that exist.
    pub bindings: Vec<(Arc<PersistentVolumeClaim>, Arc<PersistentVolume>)>,
    /// Claims for which volumes are to be made on the node.
    pub provisions: Vec<Arc<PersistentVolumeClaim>>,
}

impl Choice {
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

/// Whether a pod has any claims at all.
pub fn has_claims(pod: &Pod) -> bool {
    claims_of(pod).next().is_some()
}

impl PodVolumes {
    /// Looks a pod's claims up.
    ///
    /// # Errors
    /// Why no node will do.
    pub fn of(pod: &Pod, storage: &dyn Storage) -> Result<Self, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (mut volumes, mut waits) = (PodVolumes::default(), false);
        for wanted in claims_of(pod) {
            let name = &wanted.name;
            let Some(claim) = storage.claim(namespace, name) else {
                return Err(if wanted.ephemeral {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                } else {
                    format!("persistentvolumeclaim {name:?} not found")
                });
            };
            if claim_phase(&claim) == "Lost" {
                return Err(format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}", volume_name(&claim)));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if wanted.ephemeral {
                is_for_pod(&claim, pod)?;
            }
            if is_fully_bound(&claim) {
                volumes.bound.push(storage.volume(volume_name(&claim)));
                continue;
            }
            let class = storage.class(class_of_claim(&claim)).filter(|class| waits_for_consumer(class) && volume_name(&claim).is_empty());
            match class {
                Some(class) => {
                    let candidates = storage.volumes_of_class(class_of_claim(&claim));
                    let told = storage.capacities(&class.provisioner, class_of_claim(&claim));
                    let room = told.map(|told| places_with_room(&told, &claim));
                    volumes.unbound.push(Unbound { claim, class, candidates, room });
                }
                None => waits = true,
            }
        }
        if waits {
            return Err(UNBOUND.into());
        }
        // The smallest first, so that each gets the smallest that fits.
        volumes.unbound.sort_by_key(|unbound| request(&unbound.claim).value());
        Ok(volumes)
    }

    /// What would be done about the claims on a node.
    ///
    /// # Errors
    /// Why the node will not do.
    pub fn on_node(&self, node: &Node) -> Result<Choice, Vec<&'static str>> {
        let mut reasons = Vec::new();
        if self.bound.iter().flatten().any(|volume| !reaches(volume, node)) {
            reasons.push(NODE_CONFLICT);
        }
        let choice = self.choose(node);
        if let Err(why) = &choice {
            reasons.push(*why);
        }
        if self.bound.iter().any(Option::is_none) {
            reasons.push(VOLUME_MISSING);
        }
        choice.ok().filter(|_| reasons.is_empty()).ok_or(reasons)
    }

    fn choose(&self, node: &Node) -> Result<Choice, &'static str> {
        let (mut choice, mut taken) = (Choice::default(), BTreeSet::new());
        let name = node.metadata.name.as_deref();
        let reachable = |volume: &PersistentVolume| reaches(volume, node);
        for unbound in &self.unbound {
            let selected = annotation(&unbound.claim.metadata, SELECTED_NODE);
            if selected.is_some() && selected != name {
                return Err(BIND_CONFLICT);
            }
            let search = Search { reachable: Some(&reachable), taken: Some(&taken), delayed: true };
            let found = if selected.is_none() { best_match(&unbound.claim, &unbound.candidates, search) } else { None };
            match found {
                Some(volume) => {
                    choice.bindings.push((unbound.claim.clone(), volume.clone()));
                    taken.insert(volume.metadata.name.clone().unwrap_or_default());
                }
                None if !may_be_made(&unbound.class, node) => return Err(BIND_CONFLICT),
                None if unbound.room.as_deref().is_some_and(|room| room_on(room, node).is_none()) => return Err(NO_ROOM),
                None => choice.provisions.push(unbound.claim.clone()),
            }
        }
        Ok(choice)
    }

    /// What the pod would use on a node, by class: of the volumes that it would bind there, or of the room that drivers have for those that
    /// would be made, where it would bind none.
    pub fn asked(&self, node: &Node, choice: &Choice) -> BTreeMap<String, Asked> {
        let mut all: BTreeMap<String, Asked> = BTreeMap::new();
        for (claim, volume) in &choice.bindings {
            let asked = all.entry(class_of_claim(claim).to_owned()).or_default();
            asked.requested = asked.requested.saturating_add(request(claim).value());
            asked.capacity = asked.capacity.saturating_add(capacity(volume).value());
        }
        if !all.is_empty() {
            return all;
        }
        for claim in &choice.provisions {
            let unbound = self.unbound.iter().find(|unbound| Arc::ptr_eq(&unbound.claim, claim));
            let room = unbound.and_then(|unbound| room_on(unbound.room.as_deref()?, node));
            if let Some(room) = room {
                let asked = all.entry(class_of_claim(claim).to_owned()).or_default();
                asked.requested = asked.requested.saturating_add(request(claim).value());
                // All claims of a class share it.
                asked.capacity = room.capacity;
            }
        }
        all
    }

    /// Whether all bound volumes can be used in the node's zone and region, as far as labels tell.
    pub fn are_in_zone(&self, node: &Node) -> bool {
        let labels = |labels: Option<&BTreeMap<String, String>>, name: &str| labels.and_then(|labels| labels.get(name)).cloned();
        let of_node = |name: &str| labels(node.metadata.labels.as_ref(), name);
        if TOPOLOGY.iter().all(|(name, _)| of_node(name).is_none()) {
            return true;
        }
        self.bound.iter().flatten().all(|volume| {
            TOPOLOGY.iter().all(|(name, today)| match labels(volume.metadata.labels.as_ref(), name) {
                None => true,
                Some(zones) => of_node(name).or_else(|| of_node(today)).is_some_and(|zone| zones.split(ZONES).any(|one| one == zone)),
            })
        })
    }
}

/// The nodes for which a driver has room for a claim. One volume of that size must fit, where the driver says how large one can be.
fn places_with_room(told: &[Arc<CSIStorageCapacity>], claim: &PersistentVolumeClaim) -> Vec<Room> {
    let fits = |capacity: &&Arc<CSIStorageCapacity>| {
        let limit = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref());
        limit.and_then(|limit| Quantity::parse(&limit.0).ok()).is_some_and(|limit| limit >= request(claim))
    };
    let room = |told: &Arc<CSIStorageCapacity>| {
        let capacity = told.capacity.as_ref().and_then(|capacity| Quantity::parse(&capacity.0).ok());
        Some(Room { nodes: LabelSelector::from(told.node_topology.as_ref()?), capacity: capacity.map_or(0, |capacity| capacity.value()) })
    };
    told.iter().filter(fits).filter_map(room).collect()
}

/// The room that a node reaches.
fn room_on<'a>(room: &'a [Room], node: &Node) -> Option<&'a Room> {
    room.iter().find(|room| room.nodes.selects(&node.metadata))
}

/// Whether the class has a provisioner, and lets it make volumes for the node.
fn may_be_made(class: &StorageClass, node: &Node) -> bool {
    let is_allowed = |term: &TopologySelectorTerm| {
        let label = |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name));
        term.match_label_expressions.iter().flatten().all(|wanted| label(&wanted.key).is_some_and(|value| wanted.values.contains(value)))
    };
    let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
    !matches!(class.provisioner.as_str(), "" | NO_PROVISIONER) && (topologies.is_empty() || topologies.iter().any(is_allowed))
}

/// The claims of a pod that one pod alone may use.
pub fn exclusive_claims(pod: &Pod, storage: &dyn Storage) -> BTreeSet<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let is_exclusive = |claim: &PersistentVolumeClaim| {
        let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
        modes.iter().any(|mode| mode == "ReadWriteOncePod")
    };
    let names = claims_of(pod).map(|wanted| wanted.name);
    names.filter(|name| storage.claim(namespace, name).is_some_and(|claim| is_exclusive(&claim))).collect()
}

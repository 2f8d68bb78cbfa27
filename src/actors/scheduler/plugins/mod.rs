//! The scheduler's plugins, a file each, and their order.

mod default_binder;
mod default_preemption;
mod dynamic_resources;
mod gang_scheduling;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_declared_features;
mod node_interference;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod node_volume_limits;
mod pod_topology_spread;
mod priority_sort;
pub mod registry;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

#[cfg(test)]
mod hint_tests;
#[cfg(test)]
mod tests;

pub use default_binder::DefaultBinder;
pub use default_preemption::DefaultPreemption;
pub use dynamic_resources::{DeviceTimeouts, DynamicResources};
pub use gang_scheduling::{GangScheduling, TOO_FEW};
pub use image_locality::ImageLocality;
pub use inter_pod_affinity::InterPodAffinity;
pub use node_affinity::NodeAffinity;
pub use node_declared_features::{NodeDeclaredFeatures, declared_features};
pub use node_interference::NodeInterference;
pub use node_name::NodeName;
pub use node_ports::{NodePorts, ports_are_free};
pub use node_resources::{
    Insufficient, NodeResourcesBalancedAllocation, NodeResourcesFit, ScoringStrategy, ShapePoint, Strategy, Weighted, insufficient,
};
pub use node_unschedulable::NodeUnschedulable;
pub use node_volume_limits::{NewVolumes, NodeVolumeLimits};
pub use pod_topology_spread::PodTopologySpread;
pub use priority_sort::PrioritySort;
pub use registry::{Arguments, Parts};
pub use scheduling_gates::SchedulingGates;
pub use taint_toleration::TaintToleration;
pub use volume_binding::{CapacityScorer, VolumeBinding};
pub use volume_restrictions::{Exclusive, VolumeRestrictions};
pub use volume_zone::VolumeZone;

use super::framework::Profile;

/// The default profile without the plugins that look at more than pods and nodes.
pub fn default_profile() -> Profile {
    profile_of(&Parts::default())
}

/// The default profile as far as its parts are there: plugins in the order in which they are asked, with upstream's weights.
pub fn profile_of(parts: &Parts) -> Profile {
    let made = registry::make(Arguments::default(), parts);
    let mut profile = Profile::of(registry::DEFAULTS.iter().filter_map(|(name, weight)| Some((made.get(name)?.clone(), *weight))).collect());
    profile.compares_tolerations = parts.features.compares_tolerations;
    profile
}

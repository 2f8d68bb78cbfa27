//! The scheduler's plugins, a file each, and their order.

mod default_preemption;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

#[cfg(test)]
mod tests;

pub use default_preemption::DefaultPreemption;
pub use image_locality::ImageLocality;
pub use inter_pod_affinity::InterPodAffinity;
pub use node_affinity::NodeAffinity;
pub use node_name::NodeName;
pub use node_ports::{NodePorts, ports_are_free};
pub use node_resources::{Insufficient, NodeResourcesBalancedAllocation, NodeResourcesFit, Point, ScoringStrategy, Strategy, Weighted, insufficient};
pub use node_unschedulable::NodeUnschedulable;
pub use pod_topology_spread::PodTopologySpread;
pub use scheduling_gates::SchedulingGates;
pub use taint_toleration::TaintToleration;
pub use volume_binding::VolumeBinding;
pub use volume_restrictions::VolumeRestrictions;
pub use volume_zone::VolumeZone;

use super::{
    framework::{Enabled, Plugin, Profile},
    volumes::StorageCaches,
};

/// The plugins of the default profile, in the order in which they are asked, with upstream's weights.
pub fn default_profile() -> Profile {
    let plugins = vec![
        Enabled::new(SchedulingGates, 0),
        Enabled::new(NodeUnschedulable, 0),
        Enabled::new(NodeName, 0),
        Enabled::new(TaintToleration, 3),
        Enabled::new(NodeAffinity::default(), 2),
        Enabled::new(NodePorts, 0),
        Enabled::new(NodeResourcesFit::default(), 1),
        Enabled::new(PodTopologySpread, 2),
        Enabled::new(InterPodAffinity::default(), 2),
        Enabled::new(DefaultPreemption, 0),
        Enabled::new(NodeResourcesBalancedAllocation::default(), 1),
        Enabled::new(ImageLocality, 1),
    ];
    Profile { plugins, percentage_of_nodes_to_score: None }
}

/// The same with the plugins that look at pods' claims, in upstream's place.
pub fn with_volumes(mut profile: Profile, storage: &StorageCaches) -> Profile {
    let after = profile.plugins().position(|plugin| plugin.name() == NodeResourcesFit::default().name()).map_or(0, |at| at + 1);
    let volumes = [
        Enabled::new(VolumeRestrictions { storage: storage.clone() }, 0),
        Enabled::new(VolumeBinding { storage: storage.clone() }, 0),
        Enabled::new(VolumeZone { storage: storage.clone() }, 0),
    ];
    profile.plugins.splice(after..after, volumes);
    profile
}

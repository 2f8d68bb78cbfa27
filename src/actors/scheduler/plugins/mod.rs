//! The scheduler's plugins, a file each, and their order.

mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

#[cfg(test)]
mod tests;

pub use node_affinity::{NodeAffinity, required_matches, selector_matches};
pub use node_name::NodeName;
pub use node_ports::{NodePorts, ports_are_free};
pub use node_resources::{Insufficient, NodeResourcesBalancedAllocation, NodeResourcesFit, insufficient};
pub use node_unschedulable::NodeUnschedulable;
pub use taint_toleration::{TaintToleration, tolerates};
pub use volume_binding::VolumeBinding;
pub use volume_restrictions::VolumeRestrictions;
pub use volume_zone::VolumeZone;

use super::{framework::Plugin, volumes::StorageCaches};

/// The plugins of the default profile, in the order in which filters run.
pub fn default_plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(NodeUnschedulable),
        Box::new(NodeName),
        Box::new(TaintToleration),
        Box::new(NodeAffinity),
        Box::new(NodePorts),
        Box::new(NodeResourcesFit),
        Box::new(NodeResourcesBalancedAllocation),
    ]
}

/// The plugins that look at pods' claims.
pub fn volume_plugins(storage: &StorageCaches) -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(VolumeRestrictions { storage: storage.clone() }),
        Box::new(VolumeBinding { storage: storage.clone() }),
        Box::new(VolumeZone { storage: storage.clone() }),
    ]
}

//! The scheduler's plugins, a file each, and their order.

mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod taint_toleration;

#[cfg(test)]
mod tests;

pub use node_affinity::{NodeAffinity, required_matches};
pub use node_name::NodeName;
pub use node_ports::{NodePorts, ports_are_free};
pub use node_resources::{Insufficient, NodeResourcesBalancedAllocation, NodeResourcesFit, insufficient};
pub use node_unschedulable::NodeUnschedulable;
pub use taint_toleration::{TaintToleration, tolerates};

use super::framework::Plugin;

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

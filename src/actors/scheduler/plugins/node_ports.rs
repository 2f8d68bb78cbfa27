//! NodePorts: the host ports a pod asks for must be free on the node.

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    node_info::{NodeInfo, PodInfo},
};

/// See the module.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.demand.ports.is_empty() {
            return Ok(());
        }
        let mut taken = node.pods.values().flat_map(|other| &other.ports);
        if taken.any(|port| pod.demand.ports.iter().any(|wanted| wanted.collides(port))) {
            return Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::NodeAdded | ClusterChange::PodRemoved)
    }
}

//! NodePorts: the host ports a pod asks for must be free on the node.

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    node_info::{HostPort, NodeInfo, PodInfo},
};

/// See the module.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if ports_are_free(&pod.demand.ports, node) {
            return Ok(());
        }
        Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports"))
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::NodeAdded | ClusterChange::PodRemoved)
    }
}

/// Whether neither a pod of the node nor its kubelet has one of the ports.
pub fn ports_are_free(wanted: &[HostPort], node: &NodeInfo) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let kubelet = kubelet_port(node);
    let is_free = |port: &HostPort| {
        let mut taken = node.pods.values().flat_map(|other| &other.ports).chain(&kubelet);
        !taken.any(|other| other.collides(port))
    };
    wanted.iter().all(is_free)
}

/// Where the node's kubelet listens, as its status tells.
fn kubelet_port(node: &NodeInfo) -> Option<HostPort> {
    let endpoint = node.node.status.as_ref()?.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref()?;
    Some(HostPort::everywhere(endpoint.port))
}

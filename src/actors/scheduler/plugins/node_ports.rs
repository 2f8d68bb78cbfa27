//! NodePorts: the host ports a pod asks for must be free on the node.

use crate::scheduler::{
    demand::HostPort,
    framework::{ClusterChange, Event, Plugin, Point, PreFilter, Rejection},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// See the module.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        let ports = &pod.demand().ports;
        if ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::by_node(move |node| {
            if ports_are_free(ports, node) {
                return Ok(());
            }
            Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports"))
        })
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::PodRemoved]
    }

    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        let (Some(gone), _) = change.pod() else { return true };
        pod.demand().ports.iter().any(|port| gone.demand.ports.iter().any(|freed| freed.collides(port)))
    }
}

/// Whether neither a pod of the node nor its kubelet has one of the ports.
pub fn ports_are_free(wanted: &[HostPort], node: &NodeInfo) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let kubelet = kubelet_port(node);
    let is_free = |port: &HostPort| {
        let mut taken = node.pods.values().flat_map(|other| &other.demand.ports).chain(&kubelet);
        !taken.any(|other| other.collides(port))
    };
    wanted.iter().all(is_free)
}

/// Where the node's kubelet listens, as its status tells.
fn kubelet_port(node: &NodeInfo) -> Option<HostPort> {
    let endpoint = node.node.status.as_ref()?.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref()?;
    Some(HostPort::everywhere(endpoint.port))
}

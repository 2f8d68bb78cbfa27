//! Where nodes are, from their objects. Pure.

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use troupe_net::{iptables::Family, overlay::Place};

/// A node's internal address and pod range of a family; `None` while it has not both.
pub fn place(node: &Node, family: Family) -> Option<Place> {
    let spec = node.spec.as_ref()?;
    let ranges = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).filter_map(|range| range.parse().ok());
    let pods = ranges.into_iter().find(|range: &IpNetwork| family.has(range.ip()))?;
    let mut addresses = node.status.as_ref()?.addresses.iter().flatten().filter(|address| address.type_ == "InternalIP");
    let address = addresses.find_map(|address| address.address.parse().ok().filter(|ip: &IpAddr| family.has(*ip)))?;
    Some(Place { address, pods })
}

/// This node's place by a family, and those of all others in a fixed order.
pub fn places(nodes: &[Arc<Node>], own: &str, family: Family) -> (Option<Place>, Vec<Place>) {
    let (mine, others): (Vec<&Arc<Node>>, Vec<&Arc<Node>>) = nodes.iter().partition(|node| node.metadata.name.as_deref() == Some(own));
    let mut others: Vec<Place> = others.into_iter().filter_map(|node| place(node, family)).collect();
    others.sort_unstable();
    (mine.first().and_then(|node| place(node, family)), others)
}

//! Where nodes are, from their objects. Pure.

use std::{net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::core::v1::Node;
use troupe_net::overlay::Place;

/// A node's internal address and pod range; `None` while it has not both.
pub fn place(node: &Node) -> Option<Place> {
    let pods = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
    let mut addresses = node.status.as_ref()?.addresses.iter().flatten().filter(|address| address.type_ == "InternalIP");
    let address: Ipv4Addr = addresses.find_map(|address| address.address.parse().ok())?;
    Some(Place { address, pods })
}

/// This node's place, and those of all others in a fixed order.
pub fn places(nodes: &[Arc<Node>], own: &str) -> (Option<Place>, Vec<Place>) {
    let (mine, others): (Vec<&Arc<Node>>, Vec<&Arc<Node>>) = nodes.iter().partition(|node| node.metadata.name.as_deref() == Some(own));
    let mut others: Vec<Place> = others.into_iter().filter_map(|node| place(node)).collect();
    others.sort_unstable();
    (mine.first().and_then(|node| place(node)), others)
}

//! Where nodes are, from their objects. Pure.

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use troupe_api::projection::MetaProjection;
use troupe_net::{iptables::Family, overlay::Place};

use crate::runtime::cache::Digest;

/// What other nodes ask about a node: there may be thousands of them.
#[derive(Debug)]
pub struct NodePlaces {
    pub name: Arc<str>,
    pub is_ready: bool,
    /// By family, in the order of [`Family::ALL`].
    places: [Option<Place>; 2],
}

impl Digest<Node> for NodePlaces {
    fn of(meta: &Arc<MetaProjection>, node: &Node) -> Self {
        NodePlaces { name: meta.name.clone(), is_ready: is_ready(node), places: Family::ALL.map(|family| place(node, family)) }
    }
}

impl NodePlaces {
    /// See [`place`].
    pub fn place(&self, family: Family) -> Option<Place> {
        self.places[usize::from(family == Family::V6)]
    }
}

/// Whether a node says that it is Ready.
pub fn is_ready(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

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
pub fn places(nodes: &[Arc<NodePlaces>], own: &str, family: Family) -> (Option<Place>, Vec<Place>) {
    let (mine, others): (Vec<&Arc<NodePlaces>>, Vec<&Arc<NodePlaces>>) = nodes.iter().partition(|node| *node.name == *own);
    let mut others: Vec<Place> = others.into_iter().filter_map(|node| node.place(family)).collect();
    others.sort_unstable();
    (mine.first().and_then(|node| node.place(family)), others)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::cache::digest_of;

    fn node(name: &str, addresses: &[&str], ranges: &[&str]) -> Arc<NodePlaces> {
        let addresses: Vec<_> = addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        let status = json!({"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]});
        let object = json!({"metadata": {"name": name}, "spec": {"podCIDRs": ranges}, "status": status});
        digest_of(&serde_json::from_value::<Node>(object).expect("a node"))
    }

    #[test]
    fn nodes_are_where_both_address_and_range_of_a_family_are() {
        let nodes = [
            node("b", &["192.0.2.2", "2001:db8::2"], &["10.244.2.0/24", "fd00:10:244:2::/64"]),
            node("me", &["192.0.2.1"], &["10.244.1.0/24", "fd00:10:244:1::/64"]),
            node("a", &["192.0.2.3"], &["10.244.0.0/24"]),
        ];
        let told = |place: &Place| format!("{} {}", place.address, place.pods);
        let (me, others) = places(&nodes, "me", Family::V4);
        assert_eq!(me.as_ref().map(told).as_deref(), Some("192.0.2.1 10.244.1.0/24"));
        let all: Vec<String> = others.iter().map(told).collect();
        assert_eq!(all, ["192.0.2.2 10.244.2.0/24", "192.0.2.3 10.244.0.0/24"]);
        let (me, others) = places(&nodes, "me", Family::V6);
        assert_eq!((me, others.len(), nodes[2].is_ready), (None, 1, true));
    }
}

//! Names of chains and sets. All tables of one node share them, whoever made the rules, so that a later daemon knows them again.

use std::net::{IpAddr, Ipv4Addr};

use troupe_api::meta::ObjectKey;
use troupe_net::{hash, iptables::Family};

use super::model::Direction;

/// Where packets that are forwarded come by.
pub const POLICY: &str = "TROUPE-POLICY";
/// Where packets to the node itself come by.
pub const INPUT: &str = "TROUPE-POLICY-INPUT";
/// Leads to what pods of this node may send the node.
pub const NODE: &str = "TROUPE-POLICY-NODE";
/// Leads to what pods of this node may send.
pub const EGRESS: &str = "TROUPE-POLICY-EGRESS";
/// Leads to what pods of this node may be sent.
pub const INGRESS: &str = "TROUPE-POLICY-INGRESS";

const PODS_EGRESS: &str = "TROUPE-PE-";
const PODS_INGRESS: &str = "TROUPE-PI-";
/// Chains that split the pods of a node by their addresses, so that no packet walks the lines of all.
const SHARD_EGRESS: &str = "TROUPE-NE-";
const SHARD_INGRESS: &str = "TROUPE-NI-";
const SHARD_NODE: &str = "TROUPE-NN-";
const SETS: [&str; 2] = ["TROUPE-NP4-", "TROUPE-NP6-"];

/// The prefix of such a part: 16 addresses.
const SHARD: u8 = 28;

/// The chain of a pod.
pub fn pod_chain(direction: Direction, pod: &ObjectKey) -> String {
    let prefix = match direction {
        Direction::Egress => PODS_EGRESS,
        Direction::Ingress => PODS_INGRESS,
    };
    format!("{prefix}{}", hash::short(&[&pod.namespace, "/", &pod.name]))
}

/// The chain of what comes behind the administrators' first rules of a pod, where one of these skips the others.
pub fn next_tier_chain(direction: Direction, pod: &ObjectKey) -> String {
    format!("{}-N", pod_chain(direction, pod))
}

/// The chain of what a pod may send its node, where that is not what it may send others.
pub fn to_node_chain(pod: &ObjectKey) -> String {
    format!("{}-H", pod_chain(Direction::Egress, pod))
}

/// The chain that leads on to what the pod of an address may send its node.
pub fn to_node_dispatch_chain(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{SHARD_NODE}{}", first_of(ip)),
        IpAddr::V6(_) => NODE.to_owned(),
    }
}

/// The chain that leads on to the pod of an address.
pub fn dispatch_chain(direction: Direction, ip: IpAddr) -> String {
    match (direction, ip) {
        (Direction::Egress, IpAddr::V4(ip)) => format!("{SHARD_EGRESS}{}", first_of(ip)),
        (Direction::Ingress, IpAddr::V4(ip)) => format!("{SHARD_INGRESS}{}", first_of(ip)),
        // An IPv6 address does not fit into a chain's name.
        (direction, IpAddr::V6(_)) => parent(direction).to_owned(),
    }
}

fn first_of(ip: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(ip) >> (32 - SHARD) << (32 - SHARD))
}

/// The chain that leads to all of a direction.
pub fn parent(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => EGRESS,
        Direction::Ingress => INGRESS,
    }
}

/// Where a dispatch chain is led to from, by which end of a packet, and its range; `None` for other chains.
pub fn dispatched(chain: &str) -> Option<(&'static str, &'static str, String)> {
    let shards = [(SHARD_EGRESS, EGRESS, "-s"), (SHARD_INGRESS, INGRESS, "-d"), (SHARD_NODE, NODE, "-s")];
    let (parent, end, first) = shards.iter().find_map(|(prefix, parent, end)| Some((*parent, *end, chain.strip_prefix(prefix)?)))?;
    Some((parent, end, format!("{first}/{SHARD}")))
}

/// The kernel's name of a set.
pub fn set(family: Family, id: &str) -> String {
    let [v4, v6] = SETS;
    format!("{}{id}", if family == Family::V4 { v4 } else { v6 })
}

/// Whether a chain is that of policies.
pub fn is_ours(chain: &str) -> bool {
    let prefixes = [PODS_EGRESS, PODS_INGRESS, SHARD_EGRESS, SHARD_INGRESS, SHARD_NODE];
    [POLICY, EGRESS, INGRESS, INPUT, NODE].contains(&chain) || prefixes.iter().any(|prefix| chain.starts_with(prefix))
}

/// Whether a set is that of policies for a family.
pub fn is_our_set(family: Family, name: &str) -> bool {
    name.starts_with(&set(family, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernels_limits_and_are_known_again() {
        let ip: IpAddr = "255.255.255.255".parse().expect("an address");
        for direction in [Direction::Egress, Direction::Ingress] {
            let (shard, pod) = (dispatch_chain(direction, ip), next_tier_chain(direction, &ObjectKey::new("n", "p")));
            assert!(shard.len() <= 28 && pod.len() <= 28, "{shard} {pod}");
            assert!(is_ours(&shard) && is_ours(&pod) && is_ours(parent(direction)));
            let end = if direction == Direction::Egress { "-s" } else { "-d" };
            assert_eq!(dispatched(&shard), Some((parent(direction), end, "255.255.255.240/28".to_owned())));
            assert_eq!(dispatched(&pod), None);
        }
        let (shard, pod) = (to_node_dispatch_chain(ip), to_node_chain(&ObjectKey::new("n", "p")));
        assert!(shard.len() <= 28 && pod.len() <= 28 && is_ours(&shard) && is_ours(&pod) && is_ours(NODE), "{shard} {pod}");
        assert_eq!(dispatched(&shard), Some((NODE, "-s", "255.255.255.240/28".to_owned())));
        for family in [Family::V4, Family::V6] {
            let name = set(family, &hash::short(&["x"]));
            assert!(name.len() <= 31, "{name}");
            assert_eq!([Family::V4, Family::V6].map(|of| is_our_set(of, &name)), [Family::V4, Family::V6].map(|of| of == family));
        }
    }
}

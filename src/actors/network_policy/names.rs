//! Names of chains and sets. All tables of one node share them, whoever made the rules, so that a later daemon knows them again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// The prefix of such a part of IPv4: 16 addresses.
const SHARD: u8 = 28;
/// What begins the part of a chain's name that stands for a part of IPv6. An address of it does not fit into a name: the part is told by a few of
/// its bits, which addresses behind each other have in common, 16 at a time.
const SHARD_IPV6: &str = "6-";
/// These bits, and where they begin.
const SHARD_BITS: u128 = 0xff0;
const SHARD_SHIFT: u32 = 4;

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
    format!("{SHARD_NODE}{}", part_of(ip))
}

/// The chain that leads on to the pod of an address.
pub fn dispatch_chain(direction: Direction, ip: IpAddr) -> String {
    let prefix = match direction {
        Direction::Egress => SHARD_EGRESS,
        Direction::Ingress => SHARD_INGRESS,
    };
    format!("{prefix}{}", part_of(ip))
}

/// The part that an address is in, as a chain's name has it.
fn part_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) >> (32 - SHARD) << (32 - SHARD)).to_string(),
        IpAddr::V6(ip) => format!("{SHARD_IPV6}{:02x}", (u128::from(ip) & SHARD_BITS) >> SHARD_SHIFT),
    }
}

/// The addresses of a part, as rules have them.
fn range_of(part: &str) -> Option<String> {
    let Some(bits) = part.strip_prefix(SHARD_IPV6) else { return Some(format!("{part}/{SHARD}")) };
    let bits = u128::from(u8::from_str_radix(bits, 16).ok()?) << SHARD_SHIFT;
    Some(format!("{}/{}", Ipv6Addr::from(bits), Ipv6Addr::from(SHARD_BITS)))
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
    let (parent, end, part) = shards.iter().find_map(|(prefix, parent, end)| Some((*parent, *end, chain.strip_prefix(prefix)?)))?;
    Some((parent, end, range_of(part)?))
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
    fn addresses_behind_each_other_share_a_chain_and_16_do() {
        for (first, last, next, range) in [
            ("10.244.0.16", "10.244.0.31", "10.244.0.32", "10.244.0.16/28"),
            ("fd00::10", "fd00::1f", "fd00::20", "::10/::ff0"),
            ("fd00:1::ff0", "fd00:1::fff", "fd00:1::1000", "::ff0/::ff0"),
            ("fd00::", "fd00::f", "fd00::10", "::/::ff0"),
        ] {
            let of = |ip: &str| {
                let ip = ip.parse().expect("an address");
                [dispatch_chain(Direction::Egress, ip), dispatch_chain(Direction::Ingress, ip), to_node_dispatch_chain(ip)]
            };
            assert_eq!(of(first), of(last));
            assert_ne!(of(first), of(next));
            for (chain, expected) in of(first).iter().zip([(EGRESS, "-s"), (INGRESS, "-d"), (NODE, "-s")]) {
                assert!(is_ours(chain) && chain.len() <= 28, "{chain}");
                assert_eq!(dispatched(chain), Some((expected.0, expected.1, range.to_owned())));
            }
        }
    }

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

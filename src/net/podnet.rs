//! What the pod network needs from the packet filter beside the bridge: pods reach the outside under the node's
//! address, keep their own towards other pods, and no FORWARD policy stands between them. Pure.

use ipnetwork::Ipv4Network;

use crate::iptables::{ChainId, End, RuleSet, Table};

/// The chain that hides pods' addresses from the outside.
pub const POSTROUTING: &str = "TROUPE-POSTROUTING";
/// The chain that lets pods' traffic through.
pub const FORWARD: &str = "TROUPE-FORWARD";

/// Whether a chain belongs to the pod network.
pub fn is_ours(id: &ChainId) -> bool {
    id.name == POSTROUTING || id.name == FORWARD
}

/// The rules for a node with the pods of `pod_range` in a cluster with the pods of `cluster_range`.
pub fn rules(cluster_range: Ipv4Network, pod_range: Ipv4Network) -> RuleSet {
    let mut rules = RuleSet::default();
    let cluster = format!("{}/{}", cluster_range.network(), cluster_range.prefix());
    let pods = format!("{}/{}", pod_range.network(), pod_range.prefix());
    rules.push(Table::Nat, POSTROUTING, format!("-s {pods} -d {cluster} -j RETURN"));
    rules.push(Table::Nat, POSTROUTING, format!("-s {pods} -d 224.0.0.0/4 -j RETURN"));
    rules.push(Table::Nat, POSTROUTING, format!("-s {pods} -j MASQUERADE --random-fully"));
    rules.push(Table::Filter, FORWARD, format!("-s {cluster} -j ACCEPT"));
    rules.push(Table::Filter, FORWARD, format!("-d {cluster} -j ACCEPT"));
    let jump = |what: &str, chain: &str| format!("-m comment --comment \"troupe {what}\" -j {chain}");
    rules.line(Table::Nat, "POSTROUTING", End::Tail, jump("pod masquerade", POSTROUTING));
    rules.line(Table::Filter, "FORWARD", End::Tail, jump("pod forward", FORWARD));
    rules
}

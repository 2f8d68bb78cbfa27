//! What the pod network needs from the packet filter beside the bridge: pods reach the outside under the node's
//! address, keep their own towards other pods, and no FORWARD policy stands between them, nor one of INPUT
//! between nodes that look for each other. Pure.

use ipnetwork::IpNetwork;

use crate::{
    iptables::{ChainId, End, Family, RuleSet, Table},
    overlay,
};

/// The chain that hides pods' addresses from the outside.
pub const POSTROUTING: &str = "TROUPE-POSTROUTING";
/// The chain that lets pods' traffic through.
pub const FORWARD: &str = "TROUPE-FORWARD";

/// The chain that lets nodes ask each other's bridges for an echo, whatever the machine refuses otherwise.
pub const ECHO: &str = "TROUPE-ECHO";

/// The chain that keeps pods out of the tunnel between nodes: what a pod sent there would be unwrapped behind all policies, under any address.
pub const TUNNEL: &str = "TROUPE-TUNNEL";

/// What routers alone say to a link: a router advertisement, a redirect. A pod that does so would draw its neighbours' packets to itself.
const ROUTERS_SAY: [u8; 2] = [134, 137];

/// Whether a chain belongs to the pod network.
pub fn is_ours(id: &ChainId) -> bool {
    [POSTROUTING, FORWARD, ECHO, TUNNEL].contains(&id.name.as_str())
}

/// The rules for a node with the pods of `pod_range` in a cluster with the pods of `cluster_range`, both of one family. Pods reach the networks of
/// `shown` under their own addresses, too; those of another family are passed over.
pub fn rules(cluster_range: IpNetwork, pod_range: IpNetwork, shown: &[IpNetwork]) -> RuleSet {
    let mut rules = RuleSet::default();
    let family = Family::of(pod_range.ip());
    let multicast = if family == Family::V4 { "224.0.0.0/4" } else { "ff00::/8" };
    let cluster = format!("{}/{}", cluster_range.network(), cluster_range.prefix());
    let pods = format!("{}/{}", pod_range.network(), pod_range.prefix());
    rules.push(Table::Nat, POSTROUTING, format!("-s {pods} -d {cluster} -j RETURN"));
    rules.push(Table::Nat, POSTROUTING, format!("-s {pods} -d {multicast} -j RETURN"));
    for network in shown.iter().filter(|network| family.has(network.ip())) {
        // As the packet filter prints it, which has no word for everywhere.
        let to = if network.prefix() == 0 { String::new() } else { format!(" -d {}/{}", network.network(), network.prefix()) };
        rules.push(Table::Nat, POSTROUTING, format!("-s {pods}{to} -j RETURN"));
    }
    // Under their own addresses the other nodes know them.
    let tunnel = format!("-p udp -m udp --dport {}", overlay::PORT);
    rules.push(Table::Nat, POSTROUTING, format!("-s {pods} {tunnel} -j RETURN"));
    rules.push(Table::Nat, POSTROUTING, format!("-s {pods} -j MASQUERADE --random-fully"));
    rules.push(Table::Filter, TUNNEL, format!("-s {cluster} -j DROP"));
    for kind in ROUTERS_SAY.into_iter().filter(|_| family == Family::V6) {
        rules.push(Table::Filter, FORWARD, format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j DROP"));
    }
    if family == Family::V6 {
        // Where pods are ports of one bridge for a moment: by these addresses no policy knows them.
        rules.push(Table::Filter, FORWARD, "-s fe80::/10 ! -p ipv6-icmp -j DROP".to_owned());
    }
    rules.push(Table::Filter, FORWARD, format!("-s {cluster} -j ACCEPT"));
    rules.push(Table::Filter, FORWARD, format!("-d {cluster} -j ACCEPT"));
    let echo = match family {
        Family::V4 => "-p icmp -m icmp --icmp-type 8",
        Family::V6 => "-p ipv6-icmp -m icmp6 --icmpv6-type 128",
    };
    rules.push(Table::Filter, ECHO, format!("-s {cluster} -d {pods} {echo} -j ACCEPT"));
    let jump = |what: &str, chain: &str| format!("-m comment --comment \"troupe {what}\" -j {chain}");
    rules.line(Table::Nat, "POSTROUTING", End::Tail, jump("pod masquerade", POSTROUTING));
    rules.line(Table::Filter, "FORWARD", End::Tail, jump("pod forward", FORWARD));
    rules.line(Table::Filter, "INPUT", End::Tail, jump("echo between nodes", ECHO));
    rules.line(Table::Filter, "INPUT", End::Head, format!("{tunnel} -m comment --comment \"troupe tunnel\" -j {TUNNEL}"));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iptables::{FakeIptables, Iptables, stand};

    #[tokio::test]
    async fn rules_stand_until_one_of_them_is_gone() {
        let fake = FakeIptables::default();
        let rules = rules("10.244.0.0/16".parse().expect("a network"), "10.244.0.0/24".parse().expect("a network"), &[]);
        assert!(!stand(&fake, &rules).await.expect("tells"));
        fake.restore(RuleSet::default().diff(&rules).to_restore()).await.expect("applies");
        assert!(stand(&fake, &rules).await.expect("tells"));
        let jump = rules.lines.first().expect("has lines");
        fake.restore(format!("*{}\n-D {} {}\nCOMMIT\n", jump.chain.table.name(), jump.chain.name, jump.rule)).await.expect("applies");
        assert!(!stand(&fake, &rules).await.expect("tells"));
    }
    #[test]
    fn pods_keep_their_addresses_where_it_is_said() {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a network")).collect::<Vec<IpNetwork>>();
        let hidden = |cluster: &str, pods: &str, shown: &[&str]| {
            let rules = rules(networks(&[cluster])[0], networks(&[pods])[0], &networks(shown));
            let all = rules.chains.get(&ChainId::new(Table::Nat, POSTROUTING)).expect("the chain").clone();
            let masquerade = all.iter().position(|rule| rule.contains("MASQUERADE")).expect("it hides the others");
            all[..masquerade].to_vec()
        };
        let shown = ["192.0.2.0/24", "2001:db8::/32"];
        let v4 = hidden("10.244.0.0/16", "10.244.0.0/24", &shown);
        assert!(v4.contains(&"-s 10.244.0.0/24 -d 192.0.2.0/24 -j RETURN".to_owned()) && !v4.iter().any(|rule| rule.contains("2001")), "{v4:?}");
        let v6 = hidden("fd00::/56", "fd00::/64", &shown);
        assert!(v6.contains(&"-s fd00::/64 -d 2001:db8::/32 -j RETURN".to_owned()) && !v6.iter().any(|rule| rule.contains("192.0")), "{v6:?}");
        let everywhere = hidden("10.244.0.0/16", "10.244.0.0/24", &["0.0.0.0/0"]);
        assert!(everywhere.contains(&"-s 10.244.0.0/24 -j RETURN".to_owned()), "{everywhere:?}");
    }
}

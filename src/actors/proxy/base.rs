//! The chains that stand whether there are services or not.

use troupe_net::{
    iptables::{End, Family, RuleSet, Table},
    overlay,
};

use super::names::{EXTERNAL_SERVICES, FIREWALL, FORWARD, MARK_MASQ, NODE_PORTS, POSTROUTING, PROXY_FIREWALL, SERVICES, TUNNEL};

/// The mark of packets that leave under the node's address.
pub const MASQUERADE_MARK: &str = "0x4000";

/// The fixed rules. `localhost_node_ports` guards the loopback addresses that node ports on them open; no kernel opens those of IPv6.
pub fn rules(localhost_node_ports: bool, family: Family) -> RuleSet {
    let mut rules = RuleSet::default();
    let localhost_node_ports = localhost_node_ports && family == Family::V4;
    for chain in [SERVICES, NODE_PORTS] {
        rules.share(Table::Nat, chain);
        rules.share(Table::Filter, chain);
    }
    rules.share(Table::Filter, EXTERNAL_SERVICES);
    rules.share(Table::Filter, PROXY_FIREWALL);
    masquerade(&mut rules);
    forward(&mut rules);
    jumps(&mut rules);
    tunnel(&mut rules);
    let last = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
    let loopback = match family {
        _ if localhost_node_ports => "",
        Family::V4 => "! -d 127.0.0.0/8 ",
        Family::V6 => "! -d ::1/128 ",
    };
    rules.line(Table::Nat, SERVICES, End::Tail, format!("{loopback}-m comment --comment \"{last}\" -m addrtype --dst-type LOCAL -j {NODE_PORTS}"));
    if localhost_node_ports {
        let guard = "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\"";
        rules.push(Table::Filter, FIREWALL, format!("{guard} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"));
        rules.line(Table::Filter, "INPUT", End::Head, format!("-j {FIREWALL}"));
        rules.line(Table::Filter, "OUTPUT", End::Head, format!("-j {FIREWALL}"));
    }
    rules
}

fn masquerade(rules: &mut RuleSet) {
    let mark = MASQUERADE_MARK;
    rules.push(Table::Nat, POSTROUTING, format!("-m mark ! --mark {mark}/{mark} -j RETURN"));
    // Cleared, so that a packet that comes by again is not masqueraded twice.
    rules.push(Table::Nat, POSTROUTING, format!("-j MARK --set-xmark {mark}/0x0"));
    let why = "kubernetes service traffic requiring SNAT";
    rules.push(Table::Nat, POSTROUTING, format!("-m comment --comment \"{why}\" -j MASQUERADE --random-fully"));
    rules.push(Table::Nat, MARK_MASQ, format!("-j MARK --set-xmark {mark}/{mark}"));
}

fn forward(rules: &mut RuleSet) {
    let mark = MASQUERADE_MARK;
    // First what nearly all packets are: each comes by all rules before the one that takes it.
    let known = "kubernetes forwarding conntrack rule";
    rules.push(Table::Filter, FORWARD, format!("-m comment --comment \"{known}\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    // A packet that connection tracking does not understand would leave untranslated and reset its connection.
    rules.push(Table::Filter, FORWARD, "-m conntrack --ctstate INVALID -j DROP");
    rules.push(Table::Filter, FORWARD, format!("-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT"));
}

/// Packets of the tunnel between nodes go where they are sent: not to a Service that claims a node's address, and not to a pod's host port,
/// whose chain (`CNI-HOSTPORT-DNAT`) stands at the end.
fn tunnel(rules: &mut RuleSet) {
    for end in ["--dst-type", "--src-type"] {
        rules.push(Table::Nat, TUNNEL, format!("-m addrtype {end} LOCAL -j ACCEPT"));
    }
    // The first of their chains: see `jumps` about the order of lines.
    let to_it = format!("-p udp -m comment --comment \"tunnel between nodes\" -m udp --dport {} -j {TUNNEL}", overlay::PORT);
    for from in ["PREROUTING", "OUTPUT"] {
        rules.line(Table::Nat, from, End::Head, to_it.clone());
    }
}

fn jumps(rules: &mut RuleSet) {
    let portals = "kubernetes service portals";
    let external = "kubernetes externally-visible service portals";
    let firewall = "kubernetes load balancer firewall";
    let new = [
        ("INPUT", external, EXTERNAL_SERVICES),
        ("FORWARD", external, EXTERNAL_SERVICES),
        ("FORWARD", portals, SERVICES),
        ("OUTPUT", portals, SERVICES),
        ("INPUT", firewall, PROXY_FIREWALL),
        ("OUTPUT", firewall, PROXY_FIREWALL),
        ("FORWARD", firewall, PROXY_FIREWALL),
    ];
    for (from, why, to) in new {
        rules.line(Table::Filter, from, End::Head, format!("-m conntrack --ctstate NEW -m comment --comment \"{why}\" -j {to}"));
    }
    // Lines of a chain stand in the opposite of their alphabetical order, so that this is its first: what is established passes two rules.
    let known = "kubernetes forwarding conntrack rule";
    rules.line(
        Table::Filter,
        "FORWARD",
        End::Head,
        format!("-m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \"{known}\" -j {FORWARD}"),
    );
    let always = [
        (Table::Filter, "INPUT", "kubernetes health check service ports", NODE_PORTS),
        (Table::Filter, "FORWARD", "kubernetes forwarding rules", FORWARD),
        (Table::Nat, "OUTPUT", portals, SERVICES),
        (Table::Nat, "PREROUTING", portals, SERVICES),
        (Table::Nat, "POSTROUTING", "kubernetes postrouting rules", POSTROUTING),
    ];
    for (table, from, why, to) in always {
        rules.line(table, from, End::Head, format!("-m comment --comment \"{why}\" -j {to}"));
    }
}

#[cfg(test)]
mod tests {
    use troupe_net::iptables::{FakeIptables, Iptables};

    use super::*;

    #[tokio::test]
    async fn nothing_stands_before_the_tunnel() {
        let fake = FakeIptables::default();
        let others = "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\nCOMMIT\n";
        fake.restore(others.to_owned()).await.expect("applies");
        fake.restore(RuleSet::default().diff(&rules(true, Family::V4)).to_restore()).await.expect("applies");
        for chain in ["PREROUTING", "OUTPUT"] {
            let first = fake.rules(Table::Nat, chain).and_then(|rules| rules.first().cloned()).expect("has rules");
            assert!(first.starts_with("-p udp ") && first.ends_with("-m udp --dport 8472 -j KUBE-TUNNEL"), "{first}");
        }
    }

    #[tokio::test]
    async fn packets_of_established_connections_pass_two_rules() {
        let fake = FakeIptables::default();
        fake.restore(RuleSet::default().diff(&rules(true, Family::V4)).to_restore()).await.expect("applies");
        let first = |chain: &str| fake.rules(Table::Filter, chain).and_then(|rules| rules.first().cloned()).expect("has rules");
        let jump = first("FORWARD");
        assert!(jump.starts_with("-m conntrack --ctstate RELATED,ESTABLISHED ") && jump.ends_with("-j KUBE-FORWARD"), "{jump}");
        let accept = first(FORWARD);
        assert!(accept.ends_with("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"), "{accept}");
    }
}

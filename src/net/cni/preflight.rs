//! What stands in the pod network's way, in plain words with the way out. Pure over [`Facts`].

use std::fmt;

use super::Facts;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Something will not work as expected.
    Warning,
    /// Pods cannot run.
    Error,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub what: String,
    /// How to mend it; empty when nothing needs doing.
    pub mend: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.mend.is_empty() { Ok(()) } else { write!(f, ": {}", self.mend) }
    }
}

fn finding(severity: Severity, what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { severity, what: what.into(), mend: mend.into() }
}

/// Everything that stands in the way, the worst first.
pub fn preflight(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    tools(facts, &mut found);
    settings(facts, &mut found);
    firewalls(facts, &mut found);
    if let Some(path) = facts.foreign_network.as_ref().filter(|_| !facts.left_to_others) {
        let what = format!("another pod network is configured in {}; it stays in charge", path.display());
        found.push(finding(Severity::Warning, what, "remove the file to let this node make its own network"));
    }
    if !facts.swap.is_empty() {
        let what = format!("swap is on ({})", facts.swap.join(", "));
        found.push(finding(Severity::Warning, what, "memory limits hold better without it: swapoff -a, and drop it from /etc/fstab"));
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

fn tools(facts: &Facts, found: &mut Vec<Finding>) {
    let is_ours = facts.foreign_network.is_none() && !facts.left_to_others;
    if !facts.root {
        found.push(finding(Severity::Error, "the pod network needs root", "run it with sudo"));
    }
    if !facts.missing_tools.is_empty() {
        let what = format!("missing programs: {}", facts.missing_tools.join(", "));
        found.push(finding(Severity::Error, what, "apt-get install iptables ipset iproute2"));
    }
    if !facts.missing_plugins.is_empty() && is_ours {
        let what = format!("missing CNI plugins: {}", facts.missing_plugins.join(", "));
        found.push(finding(Severity::Error, what, "apt-get install containernetworking-plugins, or unpack them into /opt/cni/bin"));
    }
    if facts.no_bandwidth && is_ours {
        let what =
            "missing CNI plugin: bandwidth; pods' annotations kubernetes.io/ingress-bandwidth and kubernetes.io/egress-bandwidth have no effect";
        found.push(finding(Severity::Note, what, "apt-get install containernetworking-plugins, or unpack it into /opt/cni/bin"));
    }
    if facts.no_ipset && is_ours {
        let what = "missing program: ipset; pods that network policies select will not start, and pods may send with addresses of others";
        found.push(finding(Severity::Warning, what, "apt-get install ipset"));
    }
    if let Some(error) = &facts.iptables_error {
        found.push(finding(Severity::Error, format!("the packet filter cannot be read ({error})"), "check that iptables -S works"));
    }
}

fn settings(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.forwarding != Some(true) {
        found.push(finding(Severity::Error, "net.ipv4.ip_forward is off", "sysctl -w net.ipv4.ip_forward=1"));
    }
    if facts.ipv6 {
        settings_ipv6(facts, found);
    }
    match facts.bridge_filter {
        Some(true) => {}
        Some(false) => {
            let mend = "sysctl -w net.bridge.bridge-nf-call-iptables=1";
            found.push(finding(
                Severity::Warning,
                "net.bridge.bridge-nf-call-iptables is off: a pod cannot reach itself or its neighbours by Service",
                mend,
            ));
        }
        None => {
            let mend = "modprobe br_netfilter";
            found.push(finding(
                Severity::Warning,
                "the kernel does not filter bridged traffic: pods of one node cannot reach each other by Service, and pods that network policies select will not start",
                mend,
            ));
        }
    }
}

fn settings_ipv6(facts: &Facts, found: &mut Vec<Finding>) {
    match facts.forwarding_ipv6 {
        Some(true) => {}
        Some(false) => {
            found.push(finding(Severity::Error, "net.ipv6.conf.all.forwarding is off", "sysctl -w net.ipv6.conf.all.forwarding=1"));
        }
        None => {
            let mend = "boot it without ipv6.disable=1, or leave the IPv6 ranges out";
            found.push(finding(Severity::Error, "the kernel has no IPv6, and the cluster has IPv6 addresses", mend));
        }
    }
    if facts.bridge_filter_ipv6 == Some(false) {
        let mend = "sysctl -w net.bridge.bridge-nf-call-ip6tables=1";
        let what = "net.bridge.bridge-nf-call-ip6tables is off: a pod cannot reach itself or its neighbours by a Service's IPv6 address";
        found.push(finding(Severity::Warning, what, mend));
    }
}

fn firewalls(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.forward_drops {
        let what = "iptables drops forwarded packets (policy of FORWARD is DROP)";
        found.push(finding(Severity::Note, what, "rules that let pods' traffic through are added"));
    }
    for name in &facts.firewalls {
        let mend = match *name {
            "ufw" => "let pods through: ufw allow from 10.244.0.0/16, ufw route allow from 10.244.0.0/16 (your pod range), or ufw disable",
            _ => "let pods through: firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 (your pod range), and reload it",
        };
        found.push(finding(
            Severity::Warning,
            format!("the firewall {name} is switched on; it may keep pods from each other and from this node"),
            mend,
        ));
    }
    if facts.input_drops && facts.firewalls.is_empty() {
        let what = "iptables drops what comes in (policy of INPUT is DROP): pods may not reach the API server";
        found.push(finding(Severity::Warning, what, "iptables -I INPUT -s 10.244.0.0/16 -j ACCEPT (your pod range)"));
    }
    for chain in facts.dropping_chains.iter().filter(|_| facts.firewalls.is_empty()) {
        let what = format!("a firewall drops packets (nftables chain {chain})");
        found.push(finding(Severity::Warning, what, "let the pod range through there, or stop that firewall"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Facts {
        Facts { root: true, forwarding: Some(true), bridge_filter: Some(true), ..Facts::default() }
    }

    #[test]
    fn a_machine_in_order_has_no_findings() {
        assert_eq!(preflight(&fine()), []);
    }

    #[test]
    fn ipv6_is_asked_for_where_the_cluster_has_it() {
        let facts = Facts { ipv6: true, ..fine() };
        assert!(preflight(&facts)[0].what.contains("the kernel has no IPv6"));
        let facts = Facts { forwarding_ipv6: Some(false), bridge_filter_ipv6: Some(false), ..facts };
        let found = preflight(&facts);
        assert!(found[0].what.contains("net.ipv6.conf.all.forwarding") && found[1].what.contains("bridge-nf-call-ip6tables"), "{found:?}");
        assert_eq!(preflight(&Facts { forwarding_ipv6: Some(true), bridge_filter_ipv6: Some(true), ..facts }), []);
    }

    #[test]
    fn the_worst_comes_first_and_says_how_to_mend_it() {
        let facts = Facts { swap: vec!["/dev/sda2".into()], missing_plugins: vec!["bridge".into()], forward_drops: true, ..fine() };
        let found = preflight(&facts);
        assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Error, Severity::Warning, Severity::Note]);
        assert!(found[0].to_string().contains("containernetworking-plugins"));
        assert!(found[1].to_string().starts_with("swap is on (/dev/sda2)"));
    }

    #[test]
    fn a_missing_ipset_is_told_unless_the_network_is_somebody_elses() {
        let found = preflight(&Facts { no_ipset: true, ..fine() });
        assert!(found[0].severity == Severity::Warning && found[0].what.contains("ipset"), "{found:?}");
        let facts = Facts { no_ipset: true, foreign_network: Some("/etc/cni/net.d/10-calico.conflist".into()), ..fine() };
        assert_eq!(preflight(&facts).len(), 1);
    }

    #[test]
    fn a_firewall_is_named_once_with_its_own_commands() {
        let facts = Facts { firewalls: vec!["ufw"], input_drops: true, dropping_chains: vec!["inet x/y".into()], ..fine() };
        let found = preflight(&facts);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().contains("ufw allow from"));
        let unnamed = preflight(&Facts { firewalls: Vec::new(), ..facts });
        assert_eq!(unnamed.len(), 2);
    }

    #[test]
    fn a_plugin_that_can_be_done_without_is_noted() {
        let facts = Facts { no_bandwidth: true, ..fine() };
        let found = preflight(&facts);
        assert!(found.len() == 1 && found[0].severity == Severity::Note && found[0].what.contains("bandwidth"), "{found:?}");
    }

    #[test]
    fn a_network_that_is_left_to_others_needs_nothing_of_ours_and_is_not_warned_of() {
        let facts = Facts { missing_plugins: vec!["bridge".into()], no_ipset: true, no_bandwidth: true, left_to_others: true, ..fine() };
        assert_eq!(preflight(&facts), []);
        assert_eq!(preflight(&Facts { foreign_network: Some("/etc/cni/net.d/05-cilium.conflist".into()), ..facts }), []);
    }

    #[test]
    fn a_foreign_network_needs_none_of_our_plugins() {
        let facts = Facts { missing_plugins: vec!["bridge".into()], foreign_network: Some("/etc/cni/net.d/05-cilium.conflist".into()), ..fine() };
        let found = preflight(&facts);
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("05-cilium.conflist"));
    }
}

//! What pods' links need: which addresses pods may send from, as rules and sets of addresses. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
    path::PathBuf,
};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::super::INTERFACE;
use crate::iptables::{ChainId, End, Family, Observed, RuleSet, Table};

/// The chain that drops what comes from a pod with an address that the pod has not. It is asked before connections are known: a forged packet
/// would open one, and the answers to it would pass policies.
pub const SOURCES: &str = "TROUPE-SOURCES";

/// Neighbour solicitation and advertisement (RFC 4861): what a pod says from its link-local address, or while it has none.
const NEIGHBOUR_DISCOVERY: [u8; 2] = [135, 136];

/// A pod's link, as the runtime and the plugins wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// The end on the node.
    pub interface: String,
    /// The network namespace with the pod's end.
    pub namespace: PathBuf,
    /// The hardware address of the pod's end.
    pub mac: [u8; 6],
    pub addresses: Vec<PodAddress>,
}

/// An address of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// With the prefix of the node's range.
    pub address: IpNetwork,
    pub gateway: IpAddr,
}

/// The link in a remembered answer of the plugins, which lists the bridge, the end on the node and the pod's end.
pub fn pod_link(remembered: &Value, bridge: &str) -> Option<PodLink> {
    let result = &remembered["result"];
    let interfaces = result["interfaces"].as_array()?;
    let sandbox = |interface: &Value| interface["sandbox"].as_str().unwrap_or_default().to_owned();
    let pods = interfaces.iter().find(|interface| interface["name"] == INTERFACE && !sandbox(interface).is_empty())?;
    let nodes = interfaces.iter().find(|interface| interface["name"] != bridge && sandbox(interface).is_empty())?;
    let addresses = result["ips"].as_array()?.iter().map(|ip| {
        let gateway = ip["gateway"].as_str()?.parse().ok()?;
        Some(PodAddress { address: ip["address"].as_str()?.parse().ok()?, gateway })
    });
    Some(PodLink {
        interface: nodes["name"].as_str()?.to_owned(),
        namespace: sandbox(pods).into(),
        mac: mac(pods["mac"].as_str()?)?,
        addresses: addresses.collect::<Option<_>>()?,
    })
}

/// A hardware address in its usual form.
fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// The set of pods' links, and that of the addresses behind each.
fn set_names(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["TROUPE-LINKS4", "TROUPE-SOURCES4"],
        Family::V6 => ["TROUPE-LINKS6", "TROUPE-SOURCES6"],
    }
}

/// Whether a chain is this one.
pub fn is_ours(id: &ChainId) -> bool {
    id.table == Table::Raw && id.name == SOURCES
}

/// The rules of a family, which hold whatever pods there are.
pub fn rules(family: Family) -> RuleSet {
    let mut rules = RuleSet::default();
    let [links, sources] = set_names(family);
    rules.push(Table::Raw, SOURCES, format!("-m set --match-set {sources} src,src -j RETURN"));
    if family == Family::V6 {
        for kind in NEIGHBOUR_DISCOVERY {
            rules.push(Table::Raw, SOURCES, format!("-s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN"));
        }
        rules.push(Table::Raw, SOURCES, format!("-s ::/128 -p ipv6-icmp -m icmp6 --icmpv6-type {} -j RETURN", NEIGHBOUR_DISCOVERY[0]));
    }
    let why = "-m comment --comment \"the pod has not this address\"";
    rules.push(Table::Raw, SOURCES, format!("-m set --match-set {links} src,src {why} -j DROP"));
    rules.line(Table::Raw, "PREROUTING", End::Head, format!("-m comment --comment \"troupe source addresses of pods\" -j {SOURCES}"));
    rules
}

/// Sets of networks on interfaces, by name, with their entries as `ipset save` prints them.
pub type Sets = BTreeMap<&'static str, BTreeSet<String>>;

/// The sets of a family for these links.
pub fn sets<'a>(family: Family, pods: impl IntoIterator<Item = &'a PodLink>) -> Sets {
    let everything = if family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
    let (mut links, mut sources) = (BTreeSet::new(), BTreeSet::new());
    for pod in pods {
        links.insert(format!("{everything},{}", pod.interface));
        let own = pod.addresses.iter().map(|own| own.address.ip()).filter(|ip| family.has(*ip));
        sources.extend(own.map(|ip| format!("{ip},{}", pod.interface)));
    }
    let [links_name, sources_name] = set_names(family);
    [(links_name, links), (sources_name, sources)].into()
}

/// Lines for `ipset` that put everything of `wanted` in. Where a set is there they fail in nothing.
pub fn filling(family: Family, wanted: &Sets) -> String {
    let mut out = String::new();
    // Addresses are there before the link counts.
    for (name, entries) in wanted.iter().rev() {
        writeln!(out, "create {name} hash:net,iface family {}", family.set_name()).expect("writing to a string never fails");
        entries.iter().for_each(|entry| writeln!(out, "add {name} {entry}").expect("writing to a string never fails"));
    }
    out
}

/// Lines for `ipset` before and behind the rules, from what the kernel has to what is wanted; empty where nothing is to do.
pub fn set_steps(family: Family, observed: &Observed, wanted: &Sets) -> (String, String) {
    let (mut missing, mut behind) = (Sets::new(), String::new());
    for (name, entries) in wanted {
        let Some(there) = observed.sets().get(*name) else {
            missing.insert(name, entries.clone());
            continue;
        };
        let there: BTreeSet<&String> = there.iter().collect();
        let lacks: BTreeSet<String> = entries.iter().filter(|entry| !there.contains(entry)).cloned().collect();
        if !lacks.is_empty() {
            missing.insert(name, lacks);
        }
        let stale = there.into_iter().filter(|entry| !entries.contains(*entry));
        stale.for_each(|entry| writeln!(behind, "del {name} {entry}").expect("writing to a string never fails"));
    }
    (filling(family, &missing), behind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn remembered() -> Value {
        json!({"kind": "cniCacheV1", "result": {
            "interfaces": [
                {"name": "troupe0", "mac": "0a:58:0a:f4:00:01"}, {"name": "veth1", "mac": "1a:e4:b1:32:71:8c", "sandbox": ""},
                {"name": "eth0", "mac": "ae:3c:20:22:dd:1c", "sandbox": "/run/netns/cni-1"},
            ],
            "ips": [
                {"address": "10.244.0.4/24", "gateway": "10.244.0.1", "interface": 2},
                {"address": "fd00:10:244::4/64", "gateway": "fd00:10:244::1", "interface": 2},
            ],
        }})
    }

    fn link() -> PodLink {
        pod_link(&remembered(), "troupe0").expect("a link")
    }

    fn observed(text: &str) -> Observed {
        let mut observed = Observed::default();
        observed.read_sets(text);
        observed
    }

    #[test]
    fn a_link_is_found_in_what_the_plugins_said() {
        let link = link();
        assert_eq!((link.interface.as_str(), link.namespace.to_str()), ("veth1", Some("/run/netns/cni-1")));
        assert_eq!(link.mac, [0xae, 0x3c, 0x20, 0x22, 0xdd, 0x1c]);
        let addresses: Vec<String> = link.addresses.iter().map(|own| format!("{} by {}", own.address, own.gateway)).collect();
        assert_eq!(addresses, ["10.244.0.4/24 by 10.244.0.1", "fd00:10:244::4/64 by fd00:10:244::1"]);
    }

    #[test]
    fn an_answer_that_tells_too_little_is_no_link() {
        for missing in ["interfaces", "ips"] {
            let mut told = remembered();
            told["result"][missing] = Value::Null;
            assert_eq!(pod_link(&told, "troupe0"), None, "{missing}");
        }
        let mut told = remembered();
        told["result"]["interfaces"][2]["mac"] = "ae:3c".into();
        assert_eq!(pod_link(&told, "troupe0"), None);
        told = remembered();
        told["result"]["ips"][1]["gateway"] = Value::Null;
        assert_eq!(pod_link(&told, "troupe0"), None);
    }

    #[test]
    fn an_address_is_allowed_on_its_own_link_and_in_its_own_family_only() {
        let steps = set_steps(Family::V4, &Observed::default(), &sets(Family::V4, &[link()]));
        let expected = "create TROUPE-SOURCES4 hash:net,iface family inet\nadd TROUPE-SOURCES4 10.244.0.4,veth1\n\
                        create TROUPE-LINKS4 hash:net,iface family inet\nadd TROUPE-LINKS4 0.0.0.0/0,veth1\n";
        assert_eq!(steps, (expected.to_owned(), String::new()));
        let steps = set_steps(Family::V6, &Observed::default(), &sets(Family::V6, &[link()]));
        assert!(steps.0.contains("add TROUPE-SOURCES6 fd00:10:244::4,veth1\n") && steps.0.contains("add TROUPE-LINKS6 ::/0,veth1\n"), "{}", steps.0);
    }

    #[test]
    fn what_stands_needs_no_step_and_what_is_stale_goes_behind_the_rules() {
        let wanted = sets(Family::V4, &[link()]);
        let standing = "create TROUPE-LINKS4 hash:net,iface family inet\nadd TROUPE-LINKS4 0.0.0.0/0,veth1\n\
                        create TROUPE-SOURCES4 hash:net,iface family inet\nadd TROUPE-SOURCES4 10.244.0.4,veth1\n";
        assert_eq!(set_steps(Family::V4, &observed(standing), &wanted), (String::new(), String::new()));
        let more = format!("{standing}add TROUPE-SOURCES4 10.244.0.9,veth9\n");
        let (before, behind) = set_steps(Family::V4, &observed(&more), &wanted);
        assert_eq!((before.as_str(), behind.as_str()), ("", "del TROUPE-SOURCES4 10.244.0.9,veth9\n"));
        let less = standing.replace("add TROUPE-LINKS4 0.0.0.0/0,veth1\n", "");
        let (before, behind) = set_steps(Family::V4, &observed(&less), &wanted);
        assert!(before.ends_with("add TROUPE-LINKS4 0.0.0.0/0,veth1\n") && !before.contains("SOURCES") && behind.is_empty(), "{before}");
    }

    #[test]
    fn without_pods_the_rules_are_the_same_and_their_sets_empty() {
        let wanted = sets(Family::V6, &[]);
        assert!(wanted.values().all(BTreeSet::is_empty) && wanted.len() == 2);
        let named = |set: &str| rules(Family::V6).chains.values().flatten().any(|rule| rule.contains(&format!("--match-set {set} src,src")));
        assert!(wanted.keys().all(|set| named(set)));
        assert!(rules(Family::V4).chains.keys().all(is_ours));
    }
}

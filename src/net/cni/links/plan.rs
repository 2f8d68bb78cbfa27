//! What pods' links need: which addresses pods may send from, as rules and sets of addresses. Pure.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::super::INTERFACE;
use crate::{
    iptables::{ChainId, End, Family, Observed, RuleSet, Table},
    netlink::POD_LINKS,
};

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

/// The set of pods' addresses, each on its own link.
pub fn set_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "TROUPE-SOURCES4",
        Family::V6 => "TROUPE-SOURCES6",
    }
}

/// Whether a chain is this one.
pub fn is_ours(id: &ChainId) -> bool {
    id.table == Table::Raw && id.name == SOURCES
}

/// The rules of a family, which are the same whatever pods there are: what comes from a pod's link has an address that the set has on that link.
pub fn rules(family: Family) -> RuleSet {
    let mut rules = RuleSet::default();
    let set = set_name(family);
    rules.push(Table::Raw, SOURCES, format!("-m set --match-set {set} src,src -j RETURN"));
    if family == Family::V6 {
        for kind in NEIGHBOUR_DISCOVERY {
            rules.push(Table::Raw, SOURCES, format!("-s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN"));
        }
        rules.push(Table::Raw, SOURCES, format!("-s ::/128 -p ipv6-icmp -m icmp6 --icmpv6-type {} -j RETURN", NEIGHBOUR_DISCOVERY[0]));
    }
    rules.push(Table::Raw, SOURCES, "-m comment --comment \"the pod has not this address\" -j DROP");
    let from_pods = format!("-m devgroup --src-group {POD_LINKS:#x} -m comment --comment \"troupe source addresses of pods\" -j {SOURCES}");
    rules.line(Table::Raw, "PREROUTING", End::Head, from_pods);
    rules
}

/// The entries of a family's set for these links, as `ipset save` prints them.
pub fn entries<'a>(family: Family, pods: impl IntoIterator<Item = &'a PodLink>) -> BTreeSet<String> {
    let of_pod = |pod: &'a PodLink| {
        let own = pod.addresses.iter().map(|own| own.address.ip()).filter(move |ip| family.has(*ip));
        own.map(move |ip| format!("{ip},{}", pod.interface))
    };
    pods.into_iter().flat_map(of_pod).collect()
}

/// Lines for `ipset` that put entries in the family's set. What is there already is no failure.
pub fn filling<'a>(family: Family, entries: impl IntoIterator<Item = &'a String>) -> String {
    let name = set_name(family);
    let create = format!("create {name} hash:net,iface family {}\n", family.set_name());
    create + &entries.into_iter().map(|entry| format!("add {name} {entry}\n")).collect::<String>()
}

/// Lines for `ipset` before and behind the rules, from what the kernel has to what is wanted; empty where nothing is to do.
pub fn set_steps(family: Family, observed: &Observed, wanted: &BTreeSet<String>) -> (String, String) {
    let name = set_name(family);
    let Some(there) = observed.sets().get(name) else { return (filling(family, wanted), String::new()) };
    let there: BTreeSet<String> = there.iter().cloned().collect();
    let missing: Vec<&String> = wanted.difference(&there).collect();
    let before = if missing.is_empty() { String::new() } else { filling(family, missing) };
    (before, there.difference(wanted).map(|entry| format!("del {name} {entry}\n")).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn remembered() -> Value {
        json!({"kind": "cniCacheV1", "result": {
            "interfaces": [
                {"name": "troupe0", "mac": "0a:58:0a:f4:00:01"}, {"name": "veth1", "mac": "1a:e4:b1:32:71:8c", "sandbox": ""},
                {"name": "eth0", "mac": "ae:3c:20:22:dd:1c", "sandbox": "/run/netns/cni-1"}, {"name": "bwp0f5c1a2b3c4d"},
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
        let steps = |family| set_steps(family, &Observed::default(), &entries(family, &[link()]));
        let expected = "create TROUPE-SOURCES4 hash:net,iface family inet\nadd TROUPE-SOURCES4 10.244.0.4,veth1\n";
        assert_eq!(steps(Family::V4), (expected.to_owned(), String::new()));
        let expected = "create TROUPE-SOURCES6 hash:net,iface family inet6\nadd TROUPE-SOURCES6 fd00:10:244::4,veth1\n";
        assert_eq!(steps(Family::V6), (expected.to_owned(), String::new()));
    }

    #[test]
    fn what_stands_needs_no_step_and_what_is_stale_goes_behind_the_rules() {
        let wanted = entries(Family::V4, &[link()]);
        let standing = filling(Family::V4, &wanted);
        assert_eq!(set_steps(Family::V4, &observed(&standing), &wanted), (String::new(), String::new()));
        let more = format!("{standing}add TROUPE-SOURCES4 10.244.0.9,veth9\n");
        let stale = "del TROUPE-SOURCES4 10.244.0.9,veth9\n".to_owned();
        assert_eq!(set_steps(Family::V4, &observed(&more), &wanted), (String::new(), stale));
        let flushed = observed("create TROUPE-SOURCES4 hash:net,iface family inet\n");
        assert_eq!(set_steps(Family::V4, &flushed, &wanted), (standing, String::new()));
    }

    #[test]
    fn the_rules_are_in_front_of_all_others_and_speak_of_links_of_pods_alone() {
        for family in Family::ALL {
            let rules = rules(family);
            let chain = rules.chains.get(&ChainId::new(Table::Raw, SOURCES)).expect("the chain");
            let matches_the_set = format!("-m set --match-set {} src,src -j RETURN", set_name(family));
            assert_eq!(chain.first(), Some(&matches_the_set));
            assert!(chain.last().is_some_and(|last| last.ends_with("-j DROP")) && rules.chains.keys().all(is_ours));
            let line = rules.lines.first().expect("a line");
            assert!(line.rule.starts_with("-m devgroup --src-group 0x7470 ") && line.end == End::Head && line.chain.name == "PREROUTING");
        }
    }
}

//! The cluster's own addresses, to which no domain name leads: who owns a name says where it leads, and must open no way to nodes, API servers,
//! Services and pods past the rules that keep others from them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use ipnetwork::IpNetwork;
use troupe_addresses::{is_unicast, stands_for};

/// What kind of object tells of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// Ranges of all pods, as the cluster is configured.
    Pods,
    /// A Node: its addresses, and the ranges of its pods.
    Node,
    /// A ServiceCIDR.
    ServiceRange,
    /// A Service: its external addresses, and those of its load balancers.
    Service,
    /// An EndpointSlice of one of the Services that [`is_of_servers`].
    Servers,
}

/// Who tells of addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub kind: SourceKind,
    /// The object's name, behind its namespace where it has one.
    pub name: Arc<str>,
}

impl Source {
    pub fn new(kind: SourceKind, name: impl Into<Arc<str>>) -> Self {
        Source { kind, name: name.into() }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.kind {
            SourceKind::Pods => f.write_str("the cluster's pods"),
            SourceKind::Node => write!(f, "node {name} and its pods"),
            SourceKind::ServiceRange => write!(f, "the Services of ServiceCIDR {name}"),
            SourceKind::Service => write!(f, "Service {name}"),
            SourceKind::Servers => write!(f, "the servers of EndpointSlice {name}"),
        }
    }
}

/// Whether the endpoints of a Service are servers of the cluster: its API servers, and its DNS servers.
pub fn is_of_servers(namespace: &str, service: &str) -> bool {
    matches!((namespace, service), ("default", "kubernetes") | ("kube-system", "kube-dns"))
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterAddresses {
    sources: BTreeMap<Source, BTreeSet<IpNetwork>>,
    /// The same the other way round.
    networks: BTreeMap<IpNetwork, BTreeSet<Source>>,
}

impl ClusterAddresses {
    /// What a source tells now: addresses and ranges. What is neither, as a host's name, is left out. Says whether that is something else than before.
    pub fn set<T: AsRef<str>>(&mut self, source: Source, told: impl IntoIterator<Item = T>) -> bool {
        let told: BTreeSet<IpNetwork> = told.into_iter().filter_map(|text| network(text.as_ref())).collect();
        if self.sources.get(&source).map_or(told.is_empty(), |known| *known == told) {
            return false;
        }
        for gone in self.sources.remove(&source).into_iter().flatten() {
            let is_last = self.networks.get_mut(&gone).is_some_and(|sources| sources.remove(&source) && sources.is_empty());
            if is_last {
                self.networks.remove(&gone);
            }
        }
        for network in &told {
            self.networks.entry(*network).or_default().insert(source.clone());
        }
        if !told.is_empty() {
            self.sources.insert(source, told);
        }
        true
    }

    /// The same of all sources of a kind, by their names; others of that kind tell nothing any more.
    pub fn replace<T: AsRef<str>>(&mut self, kind: SourceKind, all: impl IntoIterator<Item = (String, Vec<T>)>) -> bool {
        let mut gone: BTreeSet<Source> = self.sources.keys().filter(|source| source.kind == kind).cloned().collect();
        let mut is_changed = false;
        for (name, told) in all {
            let source = Source::new(kind, name);
            gone.remove(&source);
            is_changed |= self.set(source, told);
        }
        for source in gone {
            is_changed |= self.set(source, [""; 0]);
        }
        is_changed
    }

    /// Why no domain name leads to an address, however it is written; `None` where one may.
    pub fn refuses(&self, ip: IpAddr) -> Option<String> {
        if !is_unicast(ip) {
            return Some("it is of one machine or link, or of many".to_owned());
        }
        let source = self.source(ip).or_else(|| self.source(stands_for(ip)))?;
        Some(format!("it is one of {source}"))
    }

    /// Whether a node tells of an address: as its own, or by a range of its pods.
    pub fn is_of_nodes(&self, ip: IpAddr) -> bool {
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let of_node = |sources: &BTreeSet<Source>| sources.iter().any(|source| source.kind == SourceKind::Node);
        (0..=longest).any(|prefix| range(ip, prefix).and_then(|range| self.networks.get(&range)).is_some_and(of_node))
    }

    /// Whether nodes tell of the ranges of their pods.
    pub fn has_pod_ranges(&self) -> bool {
        let is_range = |network: &IpNetwork| network.prefix() < if network.is_ipv4() { 32 } else { 128 };
        let nodes = Source::new(SourceKind::Node, "")..Source::new(SourceKind::ServiceRange, "");
        self.sources.range(nodes).any(|(_, told)| told.iter().any(is_range))
    }

    fn source(&self, ip: IpAddr) -> Option<&Source> {
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        (0..=longest).rev().find_map(|prefix| self.networks.get(&range(ip, prefix)?)?.first())
    }
}

/// The range of so many bits that an address is in.
fn range(ip: IpAddr, prefix: u8) -> Option<IpNetwork> {
    let range = IpNetwork::new(ip, prefix).ok()?;
    IpNetwork::new(range.network(), prefix).ok()
}

fn network(text: &str) -> Option<IpNetwork> {
    let told = text.parse::<IpAddr>().ok().map(IpNetwork::from).or_else(|| text.parse().ok())?;
    range(told.ip(), told.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(known: &ClusterAddresses, ip: &str) -> bool {
        known.refuses(ip.parse().expect("an address")).is_some()
    }

    /// What the names of somebody else led to, and no policy may let through.
    #[test]
    fn no_name_leads_into_the_cluster() {
        let mut known = ClusterAddresses::default();
        known.set(Source::new(SourceKind::Pods, ""), ["10.244.0.0/16", "fd00:10:244::/56"]);
        known.set(Source::new(SourceKind::Node, "one"), ["198.51.102.2", "one.example.com", "2001:db8::2", "100.64.0.0/24"]);
        known.set(Source::new(SourceKind::ServiceRange, "kubernetes"), ["10.96.0.0/16"]);
        known.set(Source::new(SourceKind::Service, "d/web"), ["192.0.2.9"]);
        known.set(Source::new(SourceKind::Servers, "default/kubernetes"), ["198.51.102.3"]);
        let inside =
            ["198.51.102.2", "198.51.102.3", "2001:db8::2", "10.96.0.1", "10.96.0.10", "10.244.0.1", "10.244.0.5", "100.64.0.1", "192.0.2.9"];
        let of_nobody = ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "ff02::1"];
        let translated = ["::ffff:198.51.102.2", "64:ff9b::10.96.0.1", "64:ff9b::7f00:1"];
        for ip in inside.iter().chain(&of_nobody).chain(&translated) {
            assert!(refuses(&known, ip), "{ip}");
        }
        for ip in ["203.0.113.9", "198.51.102.1", "10.97.0.1", "2001:db8::3", "192.0.2.8"] {
            assert!(!refuses(&known, ip), "{ip}");
        }
        let why = known.refuses("198.51.102.2".parse().expect("an address"));
        assert_eq!(why.as_deref(), Some("it is one of node one and its pods"));
    }

    #[test]
    fn pods_and_nodes_are_told_from_strangers() {
        let mut known = ClusterAddresses::default();
        known.set(Source::new(SourceKind::Pods, ""), ["10.0.0.0/8"]);
        known.set(Source::new(SourceKind::Node, "one"), ["198.51.102.2"]);
        known.set(Source::new(SourceKind::ServiceRange, "kubernetes"), ["10.96.0.0/16"]);
        assert!(!known.has_pod_ranges(), "others' ranges are not those of nodes");
        known.set(Source::new(SourceKind::Node, "two"), ["198.51.102.3", "10.244.1.0/24", "fd00:10:244:1::/64"]);
        assert!(known.has_pod_ranges());
        let is_of_nodes = |ip: &str| known.is_of_nodes(ip.parse().expect("an address"));
        for ip in ["198.51.102.2", "198.51.102.3", "10.244.1.7", "fd00:10:244:1::7"] {
            assert!(is_of_nodes(ip), "{ip}");
        }
        for ip in ["198.51.102.4", "10.244.2.7", "10.96.0.1", "fd00:10:244:2::7"] {
            assert!(!is_of_nodes(ip), "{ip}");
        }
    }

    #[test]
    fn what_is_known_follows_its_sources() {
        let (mut known, node) = (ClusterAddresses::default(), || Source::new(SourceKind::Node, "two"));
        assert!(!refuses(&known, "198.51.102.9"));
        assert!(known.set(node(), ["198.51.102.9"]) && !known.set(node(), ["198.51.102.9"]));
        assert!(known.set(Source::new(SourceKind::Servers, "default/kubernetes"), ["198.51.102.9"]));
        assert!(known.set(node(), ["198.51.102.8"]) && refuses(&known, "198.51.102.8"));
        assert!(refuses(&known, "198.51.102.9"), "another source tells of it still");
        assert!(known.replace(SourceKind::Servers, [("default/other".to_owned(), vec!["198.51.102.7"])]));
        assert!(refuses(&known, "198.51.102.7") && !refuses(&known, "198.51.102.9"));
        assert!(known.replace(SourceKind::Servers, Vec::<(String, Vec<String>)>::new()) && known.set(node(), [""; 0]));
        assert_eq!(known, ClusterAddresses::default());
        assert!(!known.set(node(), ["two.example.com"]), "a name is no address");
    }
}

//! Names and addresses that are no node's: the cluster's own, and those that mean every machine. Pure.
//!
//! Nodes report their own addresses, and get certificates with their name and address from the authority that also signs the API
//! server's. So none of them may come by a name under which clients look for the API server or a Service, nor by the address of
//! another.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;

use crate::{
    meta::{GroupResource, ObjectKey},
    service::Listers,
};

/// What belongs to the cluster itself.
#[derive(Clone, Debug, Default)]
pub struct ClusterIdentity {
    /// Ranges of Services' addresses.
    pub service_ranges: Vec<IpNetwork>,
    /// The API servers' addresses.
    pub servers: BTreeSet<IpAddr>,
    /// The ports that API servers serve at their addresses.
    pub server_ports: BTreeSet<i64>,
    /// More names of API servers than every cluster has, in lower case.
    pub names: BTreeSet<String>,
}

/// Why no node may have a name or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It means another machine on each, or several: loopback, link-local, multicast, unspecified.
    Special,
    /// It is in the range of Services' addresses.
    Service,
    /// It is an API server's.
    Server,
}

impl Reserved {
    /// What it is, behind "is".
    pub fn what(self) -> &'static str {
        match self {
            Reserved::Special => "not an address that one machine has",
            Reserved::Service => "in the range of the cluster's services",
            Reserved::Server => "the API server's",
        }
    }
}

impl ClusterIdentity {
    /// As the cluster's objects tell it: ServiceCIDRs, and the endpoints of `default/kubernetes`.
    pub fn read(listers: &dyn Listers) -> Self {
        let ranges = listers.list(&GroupResource::new("networking.k8s.io", "servicecidrs"), "");
        let ranges = ranges.iter().flat_map(|range| range.to_object().list(&["spec", "cidrs"]).to_vec());
        let endpoints = listers.get(&GroupResource::new("", "endpoints"), &ObjectKey::new("default", "kubernetes"));
        let subsets = endpoints.map(|endpoints| endpoints.to_object().list(&["subsets"]).to_vec()).unwrap_or_default();
        let addresses = subsets.iter().flat_map(|subset| subset["addresses"].as_array().into_iter().flatten());
        let ports = subsets.iter().flat_map(|subset| subset["ports"].as_array().into_iter().flatten());
        ClusterIdentity {
            service_ranges: ranges.filter_map(|range| range.as_str()?.parse().ok()).collect(),
            servers: addresses.filter_map(|address| address["ip"].as_str()?.parse().ok()).collect(),
            server_ports: ports.filter_map(|port| port["port"].as_i64()).collect(),
            names: BTreeSet::new(),
        }
    }

    /// Why an address is no node's; that of an API server may be the node's on the same machine.
    pub fn address(&self, address: IpAddr) -> Option<Reserved> {
        let address = address.to_canonical();
        if is_special(address) {
            Some(Reserved::Special)
        } else if self.service_ranges.iter().any(|range| range.contains(address)) {
            Some(Reserved::Service)
        } else {
            self.servers.contains(&address).then_some(Reserved::Server)
        }
    }

    /// Why a DNS name is no node's.
    pub fn name(&self, name: &str) -> Option<Reserved> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_or_below = |domain: &str| name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        if is_or_below("localhost") {
            return Some(Reserved::Special);
        }
        // The API server's short names, and what the cluster's DNS answers for Services in any domain.
        let of_server = ["kubernetes", "kubernetes.default"].contains(&&*name) || self.names.contains(&name);
        if of_server {
            return Some(Reserved::Server);
        }
        (is_or_below("svc") || name.contains(".svc.")).then_some(Reserved::Service)
    }
}

fn is_special(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterIdentity {
        ClusterIdentity {
            service_ranges: vec!["10.96.0.0/12".parse().expect("a range")],
            servers: BTreeSet::from(["192.0.2.1".parse().expect("an address")]),
            names: BTreeSet::from(["api.example.com".to_owned()]),
            ..ClusterIdentity::default()
        }
    }

    #[test]
    fn no_node_has_an_address_of_the_cluster_or_of_every_machine() {
        let why = |text: &str| cluster().address(text.parse().expect("an address"));
        for special in ["127.0.0.1", "127.8.0.1", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(why(special), Some(Reserved::Special), "{special}");
        }
        assert_eq!(why("::ffff:127.0.0.1"), Some(Reserved::Special));
        assert_eq!(why("10.96.0.1"), Some(Reserved::Service));
        assert_eq!(why("::ffff:192.0.2.1"), Some(Reserved::Server));
        assert_eq!((why("192.0.2.2"), why("2001:db8::1")), (None, None));
    }

    #[test]
    fn no_node_has_a_name_by_which_clients_find_the_api_server_or_a_service() {
        let why = |name: &str| cluster().name(name);
        for server in ["kubernetes", "Kubernetes.Default", "api.example.com", "API.example.com."] {
            assert_eq!(why(server), Some(Reserved::Server), "{server}");
        }
        for service in ["kubernetes.default.svc", "a.b.svc", "kubernetes.default.svc.cluster.local", "svc"] {
            assert_eq!(why(service), Some(Reserved::Service), "{service}");
        }
        assert_eq!((why("localhost"), why("x.localhost")), (Some(Reserved::Special), Some(Reserved::Special)));
        assert_eq!((why("two"), why("kubernetes-2"), why("worker.svc-site.example")), (None, None, None));
    }
}

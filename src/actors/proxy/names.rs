//! Chain names, as upstream makes them, so that people and tools recognise them.

use std::net::Ipv4Addr;

use crate::rules::hash::short as hash;

/// Dispatch of virtual addresses; in both tables.
pub const SERVICES: &str = "KUBE-SERVICES";
/// Dispatch of node ports (nat), and open health check ports (filter).
pub const NODE_PORTS: &str = "KUBE-NODEPORTS";
/// Refusals of external addresses and node ports without endpoints.
pub const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
/// Load balancer traffic from sources that are not allowed.
pub const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// What is let through because it belongs to a service.
pub const FORWARD: &str = "KUBE-FORWARD";
/// Guards the loopback addresses that `route_localnet` opens.
pub const FIREWALL: &str = "KUBE-FIREWALL";
/// Masquerades what is marked.
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
/// Marks for masquerade.
pub const MARK_MASQ: &str = "KUBE-MARK-MASQ";

/// Prefix of the chains that split the dispatch of virtual addresses by /24, so that neither a packet nor a change
/// walks the lines of all services.
const SHARD: &str = "KUBE-NET-";
/// Prefix of the chains that split the dispatch of one address by its ports, for the same reason.
const RANGE: &str = "KUBE-PORTS-";
/// Prefix of the chains in which many addresses of one Service meet its ports.
const ADDRESSES: &str = "KUBE-ADDR-";
const PER_SERVICE: [&str; 7] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", RANGE, ADDRESSES];
const FIXED: [&str; 8] = [SERVICES, NODE_PORTS, EXTERNAL_SERVICES, PROXY_FIREWALL, FORWARD, FIREWALL, POSTROUTING, MARK_MASQ];

/// The chains of one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortChains {
    pub cluster: String,
    pub local: String,
    pub external: String,
    pub firewall: String,
}

impl PortChains {
    /// `port_name` is `namespace/service:port`, `protocol` lower case.
    pub fn new(port_name: &str, protocol: &str) -> Self {
        let hash = hash(&[port_name, protocol]);
        let [cluster, local, external, firewall] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-"].map(|prefix| format!("{prefix}{hash}"));
        PortChains { cluster, local, external, firewall }
    }
}

/// The chain of one endpoint (`ip:port`) of a service port.
pub fn endpoint_chain(port_name: &str, protocol: &str, endpoint: &str) -> String {
    format!("KUBE-SEP-{}", hash(&[port_name, protocol, endpoint]))
}

/// The chain in which a Service's (`namespace/service`) addresses meet its ports, for one `purpose`.
pub fn address_chain(service: &str, purpose: &str) -> String {
    format!("{ADDRESSES}{}", hash(&[service, " ", purpose]))
}

/// The chain of the sources that may come to a Service's load balancer, for all of its ports.
pub fn firewall_chain(service: &str) -> String {
    format!("KUBE-FW-{}", hash(&[service]))
}

/// The chain of a range of a Service's ports. `from` is the chain that leads there, `service` is `namespace/service`, `at` the address
/// where it leads there from one alone, `first` the range's first port.
pub fn range_chain(from: &str, service: &str, at: &str, protocol: &str, first: u16) -> String {
    format!("{RANGE}{}", hash(&[from, " ", service, " ", at, " ", protocol, " ", &first.to_string()]))
}

/// The dispatch chain of a virtual address.
pub fn shard(ip: Ipv4Addr) -> String {
    let [a, b, c, _] = ip.octets();
    format!("{SHARD}{a}.{b}.{c}.0")
}

/// The range that a dispatch chain is for; `None` for other chains.
pub fn shard_range(chain: &str) -> Option<String> {
    chain.strip_prefix(SHARD).map(|network| format!("{network}/24"))
}

/// Whether a chain is the proxy's.
pub fn is_ours(chain: &str) -> bool {
    FIXED.contains(&chain) || chain.starts_with(SHARD) || PER_SERVICE.iter().any(|prefix| chain.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_have_upstreams_names() {
        // Chains every cluster has for the API server's and the DNS Service.
        assert_eq!(PortChains::new("default/kubernetes:https", "tcp").cluster, "KUBE-SVC-NPX46M4PTMTKRN6Y");
        assert_eq!(PortChains::new("kube-system/kube-dns:dns", "udp").cluster, "KUBE-SVC-TCOU7JCQXEZGVUNU");
        assert_eq!(PortChains::new("kube-system/kube-dns:dns-tcp", "tcp").cluster, "KUBE-SVC-ERIFXISQEP7F7OF4");
    }

    #[test]
    fn dispatch_chains_fit_the_kernels_limit() {
        let chain = shard(Ipv4Addr::new(255, 255, 255, 255));
        assert!(chain.len() <= 28 && is_ours(&chain));
        assert_eq!(shard_range(&chain).as_deref(), Some("255.255.255.0/24"));
    }
}

//! Chain names, as upstream makes them, so that people and tools recognise them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use troupe_net::hash::short as hash;

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

/// Keeps what nodes send each other through the tunnel from being translated, by whatever comes behind.
pub const TUNNEL: &str = "KUBE-TUNNEL";

/// Prefix of the chains that split the dispatch of virtual addresses by /24, so that neither a packet nor a change
/// walks the lines of all services.
const SHARD: &str = "KUBE-NET-";
/// The same of IPv6 addresses, by /120.
const SHARD_IPV6: &str = "KUBE-N6-";
/// Prefix of the chains that split the dispatch of one address by its ports, for the same reason.
const RANGE: &str = "KUBE-PORTS-";
/// Prefix of the chains in which many addresses of one Service meet its ports.
const ADDRESSES: &str = "KUBE-ADDR-";
const PER_SERVICE: [&str; 7] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", RANGE, ADDRESSES];
const FIXED: [&str; 9] = [SERVICES, NODE_PORTS, EXTERNAL_SERVICES, PROXY_FIREWALL, FORWARD, FIREWALL, POSTROUTING, MARK_MASQ, TUNNEL];

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
pub fn shard(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{SHARD}{}", Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(ip) => format!("{SHARD_IPV6}{}", compact(u128::from(ip) >> 8)),
    }
}

/// The range that a dispatch chain is for; `None` for other chains.
pub fn shard_range(chain: &str) -> Option<String> {
    match chain.strip_prefix(SHARD_IPV6) {
        Some(network) => Some(format!("{}/120", Ipv6Addr::from(spread(network)? << 8))),
        None => chain.strip_prefix(SHARD).map(|network| format!("{network}/24")),
    }
}

/// Six bits a character: what an IPv6 network of 120 bits needs to fit into a chain's name.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._";
/// Characters of 120 bits.
const COMPACT: u32 = 20;

fn compact(network: u128) -> String {
    (0..COMPACT).rev().map(|at| char::from(ALPHABET[(network >> (6 * at) & 63) as usize])).collect()
}

fn spread(name: &str) -> Option<u128> {
    let digit = |byte: u8| ALPHABET.iter().position(|letter| *letter == byte);
    let known = name.len() == COMPACT as usize;
    known.then(|| name.bytes().try_fold(0_u128, |network, byte| Some(network << 6 | digit(byte)? as u128))).flatten()
}

/// Whether a chain is the proxy's.
pub fn is_ours(chain: &str) -> bool {
    FIXED.contains(&chain) || chain.starts_with(SHARD) || chain.starts_with(SHARD_IPV6) || PER_SERVICE.iter().any(|prefix| chain.starts_with(prefix))
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
        for (ip, range) in [("255.255.255.255", "255.255.255.0/24"), ("fd00:10:96::1:203", "fd00:10:96::1:200/120"), ("::", "::/120")] {
            let chain = shard(ip.parse().expect("an address"));
            assert!(chain.len() <= 28 && is_ours(&chain));
            assert_eq!(shard_range(&chain).as_deref(), Some(range));
        }
        assert_eq!(shard_range("KUBE-N6-x"), None);
    }
}

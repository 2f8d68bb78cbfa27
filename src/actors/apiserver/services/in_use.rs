//! Which addresses and ports the cluster uses itself, and which other namespaces' Services have. Pure but for [`InUse::read`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
};

use ipnetwork::IpNetwork;
use serde_json::Value;
use troupe_addresses::stands_for;
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey},
    service::Listers,
    stored::StoredObject,
};
use troupe_net::overlay;

use crate::apiserver::options::Listening;

/// The kubelet of nodes that do not tell their port.
const KUBELET_PORT: u64 = 10250;
/// Where else nodes listen: metrics and health of the service proxy.
const ON_NODES: [u64; 2] = [10249, 10256];
/// Where else control planes listen: etcd, the controllers and the scheduler.
const ON_SERVERS: [u64; 4] = [2379, 2380, 10257, 10259];

/// A port of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub protocol: &'static str,
    pub number: u64,
}

impl Port {
    /// Of an entry of a Service's ports.
    fn of(port: &Value) -> Option<Self> {
        let protocol = match port["protocol"].as_str() {
            Some("UDP") => "UDP",
            Some("SCTP") => "SCTP",
            _ => "TCP",
        };
        Some(Port { protocol, number: port["port"].as_u64()? })
    }
}

/// What the cluster's ranges and servers are, whatever its objects say.
pub struct Cluster<'a> {
    pub service_ranges: &'a [IpNetwork],
    pub node_ports: &'a RangeInclusive<u16>,
    pub listening: &'a Listening,
}

/// What is in use.
#[derive(Clone, Debug)]
pub struct InUse {
    /// Ranges of Services' and of pods' addresses.
    pub ranges: Vec<IpNetwork>,
    /// Where every node answers for the Services that have them.
    pub node_ports: RangeInclusive<u16>,
    /// Addresses of nodes, and the ports of the kubelets there.
    nodes: BTreeMap<IpAddr, BTreeSet<u64>>,
    /// Addresses of the API servers' machines.
    servers: BTreeSet<IpAddr>,
    server_ports: BTreeSet<u64>,
    /// Services of other namespaces that have an address of those that are asked about.
    pub others: Vec<Held>,
}

/// What a Service of another namespace has.
#[derive(Clone, Debug)]
pub struct Held {
    pub external: BTreeSet<IpAddr>,
    /// What its load balancer has, and what it is asked to have.
    pub balancer: BTreeSet<IpAddr>,
    pub ports: BTreeSet<Port>,
}

impl Held {
    fn of(service: &Object) -> Self {
        let ingress = service.list(&["status", "loadBalancer", "ingress"]).iter().filter_map(|point| parse(point["ip"].as_str()?));
        Held {
            external: external_ips(service).into_iter().flatten().collect(),
            balancer: ingress.chain(balancer_ip(service)).collect(),
            ports: ports(service),
        }
    }

    fn has_any(&self, ips: &BTreeSet<IpAddr>) -> bool {
        !self.external.is_disjoint(ips) || !self.balancer.is_disjoint(ips)
    }
}

impl InUse {
    pub fn new(service_ranges: &[IpNetwork], node_ports: RangeInclusive<u16>) -> Self {
        InUse {
            ranges: service_ranges.to_vec(),
            node_ports,
            nodes: BTreeMap::new(),
            servers: BTreeSet::new(),
            server_ports: BTreeSet::new(),
            others: Vec::new(),
        }
    }

    /// As the cluster and its objects tell it, for what the Service `new` asks for.
    pub fn read(listers: &dyn Listers, cluster: &Cluster<'_>, new: &Object) -> Self {
        let mut used = InUse::new(cluster.service_ranges, cluster.node_ports.clone());
        used.servers.extend((cluster.listening.addresses)().into_iter().map(stands_for));
        used.server_ports.extend(cluster.listening.ports.iter().map(|port| u64::from(*port)));
        if let Some(servers) = listers.get(&GroupResource::new("", "endpoints"), &ObjectKey::new("default", "kubernetes")) {
            used.add_servers(&servers.to_object());
        }
        for node in listers.list(&GroupResource::new("", "nodes"), "") {
            used.add_node(&node.to_object());
        }
        let asked: BTreeSet<IpAddr> = external_ips(new).into_iter().flatten().chain(balancer_ip(new)).collect();
        for service in listers.list(&GroupResource::new("", "services"), "") {
            if *service.key.namespace != *new.namespace() && may_have_addresses(&service) {
                used.add_service(&service.to_object(), &asked);
            }
        }
        used
    }

    /// The API servers, from their endpoints.
    pub fn add_servers(&mut self, endpoints: &Object) {
        for subset in endpoints.list(&["subsets"]) {
            self.server_ports.extend(entries(subset, "ports").filter_map(|port| port["port"].as_u64()));
            self.servers.extend(entries(subset, "addresses").filter_map(|address| parse(address["ip"].as_str()?)));
        }
    }

    pub fn add_node(&mut self, node: &Object) {
        let ranges = node.list(&["spec", "podCIDRs"]).iter().filter_map(Value::as_str).chain([node.str(&["spec", "podCIDR"])]);
        self.ranges.extend(ranges.filter_map(|range| range.parse::<IpNetwork>().ok()));
        let port = node.int(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(|port| u64::try_from(port).ok());
        let port = port.filter(|port| *port != 0).unwrap_or(KUBELET_PORT);
        for ip in node.list(&["status", "addresses"]).iter().filter_map(|address| parse(address["address"].as_str()?)) {
            self.nodes.entry(ip).or_default().insert(port);
        }
    }

    /// A Service of another namespace, if it has one of the addresses that are `asked` for.
    pub fn add_service(&mut self, service: &Object, asked: &BTreeSet<IpAddr>) {
        self.others.extend(Some(Held::of(service)).filter(|held| held.has_any(asked)));
    }

    /// Whether an address is that of a machine of the cluster.
    pub fn is_machine(&self, ip: IpAddr) -> bool {
        self.nodes.contains_key(&ip) || self.servers.contains(&ip)
    }

    /// Whether a daemon of the cluster may listen at a port of an address.
    pub fn is_listening(&self, ip: IpAddr, port: Port) -> bool {
        if !self.is_machine(ip) {
            return false;
        }
        let is_server = self.servers.contains(&ip);
        let kubelet = |number: u64| self.nodes.get(&ip).map_or(number == KUBELET_PORT, |kubelets| kubelets.contains(&number));
        let Port { protocol, number } = port;
        match protocol {
            "TCP" => {
                let on_server = is_server && (ON_SERVERS.contains(&number) || number == KUBELET_PORT);
                on_server || ON_NODES.contains(&number) || self.server_ports.contains(&number) || kubelet(number)
            }
            // What comes there is unwrapped as packets between pods.
            "UDP" => number == u64::from(overlay::PORT),
            _ => false,
        }
    }
}

/// Whether a Service may have addresses beside its cluster address. Nothing is decoded for it: most have none.
fn may_have_addresses(service: &StoredObject) -> bool {
    let encoded = service.encoded();
    let text = std::str::from_utf8(&encoded).unwrap_or_default();
    ["\"externalIPs\"", "\"loadBalancerIP\"", "\"ingress\""].into_iter().any(|field| text.contains(field))
}

/// The external addresses of a Service in their order, `None` for what is no address.
pub fn external_ips(service: &Object) -> Vec<Option<IpAddr>> {
    service.list(&["spec", "externalIPs"]).iter().map(|ip| parse(ip.as_str()?)).collect()
}

/// The address that a Service asks its load balancer to have.
pub fn balancer_ip(service: &Object) -> Option<IpAddr> {
    (service.str(&["spec", "type"]) == "LoadBalancer").then(|| parse(service.str(&["spec", "loadBalancerIP"]))).flatten()
}

pub fn ports(service: &Object) -> BTreeSet<Port> {
    service.list(&["spec", "ports"]).iter().filter_map(Port::of).collect()
}

fn entries<'a>(value: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    value[list].as_array().into_iter().flatten()
}

/// An address as what it stands for.
fn parse(text: &str) -> Option<IpAddr> {
    text.trim().parse::<IpAddr>().ok().map(stands_for)
}

//! What the proxy wants to know of a Service, port by port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use troupe_addresses::is_unicast;
use troupe_net::iptables::Family;

use super::names::PortChains;

/// Services and EndpointSlices with one of these labels are somebody else's to route, or nobody's.
const NOT_OURS: [&str; 2] = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];
/// Upstream's default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// Whether something with these labels is the service proxy's business (upstream's kube-proxy watches nothing else).
pub fn is_ours(has_label: impl Fn(&str) -> bool) -> bool {
    !NOT_OURS.into_iter().any(has_label)
}

/// A protocol, in lower case, and a port of it.
pub type Door = (&'static str, u16);

/// What other Services have by a better right, of the addresses of one.
pub type Taken = BTreeMap<IpAddr, BTreeSet<Door>>;

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// `namespace/service:port`, or without `:port` when the port has no name.
    pub full_name: String,
    /// The port's name, which endpoint slices repeat.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    pub cluster_ip: IpAddr,
    pub port: u16,
    pub node_port: Option<u16>,
    /// These three are the Service's, whatever the port, unless it is `apart`.
    pub external_ips: Arc<[IpAddr]>,
    pub balancer_ips: Arc<[IpAddr]>,
    pub source_ranges: Arc<[IpNetwork]>,
    /// Unlike the Service's other ports it is not had at all of these addresses, or not everywhere: it stands in no chain that ports share.
    pub apart: bool,
    pub health_port: Option<u16>,
    /// Seconds that a client stays with its endpoint.
    pub affinity: Option<i32>,
    pub internal_local: bool,
    pub external_local: bool,
    pub chains: PortChains,
}

impl PortView {
    /// The ports of a Service at its addresses of a family, none when it is not ours to route: headless, an alias, or another proxy's.
    pub fn of(service: &Service, family: Family) -> Vec<PortView> {
        let labels = service.metadata.labels.clone().unwrap_or_default();
        let Some(spec) = &service.spec else { return Vec::new() };
        if !is_ours(|label| labels.contains_key(label)) || spec.type_.as_deref() == Some("ExternalName") {
            return Vec::new();
        }
        let Some(cluster_ip) = cluster_ip(spec, family) else { return Vec::new() };
        let addresses = Addresses::of(service, spec, cluster_ip, family);
        spec.ports.iter().flatten().filter_map(|port| PortView::new(service, spec, &addresses, port)).collect()
    }

    fn new(service: &Service, spec: &ServiceSpec, addresses: &Addresses, port: &ServicePort) -> Option<PortView> {
        let (protocol, number) = door(port)?;
        let (namespace, service_name) =
            (service.metadata.namespace.as_deref().unwrap_or_default(), service.metadata.name.as_deref().unwrap_or_default());
        let name = port.name.clone().unwrap_or_default();
        let full_name = if name.is_empty() { format!("{namespace}/{service_name}") } else { format!("{namespace}/{service_name}:{name}") };
        let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let external_local = is_local(&spec.external_traffic_policy);
        is_plain(&full_name).then_some(())?;
        Some(PortView {
            chains: PortChains::new(&full_name, protocol),
            name,
            protocol,
            cluster_ip: addresses.cluster,
            port: number,
            node_port,
            external_ips: addresses.external.clone(),
            balancer_ips: addresses.balancer.clone(),
            source_ranges: addresses.sources.clone(),
            apart: false,
            health_port: spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0 && external_local),
            affinity: affinity(spec),
            internal_local: is_local(&spec.internal_traffic_policy),
            external_local,
            full_name,
        })
    }

    /// Leaves out the addresses at which another Service has this port.
    pub fn leave(&mut self, taken: &Taken) {
        let own: Door = (self.protocol, self.port);
        let is_free = |ip: &IpAddr| taken.get(ip).is_none_or(|doors| !doors.contains(&own));
        if taken.is_empty() || self.external_ips.iter().chain(self.balancer_ips.iter()).all(is_free) {
            return;
        }
        self.external_ips = self.external_ips.iter().copied().filter(is_free).collect();
        self.balancer_ips = self.balancer_ips.iter().copied().filter(is_free).collect();
        self.apart = true;
    }

    /// It has an address or port beside its cluster address.
    pub fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.balancer_ips.is_empty()
    }

    /// External traffic needs all endpoints even under the Local policy: the node's own does not obey it.
    pub fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.is_external()
    }

    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.is_external())
    }
}

fn door(port: &ServicePort) -> Option<Door> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => "tcp",
        Some("UDP") => "udp",
        Some("SCTP") => "sctp",
        Some(_) => return None,
    };
    Some((protocol, u16::try_from(port.port).ok()?))
}

/// The addresses of a family by which a Service may be reached from outside, and its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Those that were given to it.
    pub balancer_ips: Arc<[IpAddr]>,
    /// Those that it names itself.
    pub external_ips: Arc<[IpAddr]>,
    pub doors: BTreeSet<Door>,
}

impl Outside {
    /// `None` for a Service without such addresses, or one that is not ours to route.
    pub fn of(service: &Service, family: Family) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.external_ips.as_ref().is_none_or(Vec::is_empty) && balancer_ips(service).next().is_none() {
            return None;
        }
        let labels = service.metadata.labels.as_ref();
        if !is_ours(|label| labels.is_some_and(|labels| labels.contains_key(label))) || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let Addresses { external, balancer, .. } = Addresses::of(service, spec, cluster_ip(spec, family)?, family);
        let doors = spec.ports.iter().flatten().filter_map(door).collect();
        (!external.is_empty() || !balancer.is_empty()).then_some(Outside { balancer_ips: balancer, external_ips: external, doors })
    }
}

/// What all ports of a Service have in common, each once.
struct Addresses {
    cluster: IpAddr,
    external: Arc<[IpAddr]>,
    balancer: Arc<[IpAddr]>,
    sources: Arc<[IpNetwork]>,
}

impl Addresses {
    fn of(service: &Service, spec: &ServiceSpec, cluster: IpAddr, family: Family) -> Self {
        let external = parse(spec.external_ips.iter().flatten()).filter(|ip| family.has(*ip) && is_catchable(*ip));
        let sources = parse(spec.load_balancer_source_ranges.iter().flatten()).filter(|range: &IpNetwork| family.has(range.ip()));
        Addresses { cluster, external: once(external), balancer: once(balancer_ips(service).filter(|ip| family.has(*ip))), sources: once(sources) }
    }
}

/// Without what is said twice.
fn once<T: Ord>(all: impl Iterator<Item = T>) -> Arc<[T]> {
    all.collect::<BTreeSet<T>>().into_iter().collect()
}

/// Whether a name can stand between quotes in a rule: nothing but what names are made of.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/:".contains(&byte))
}

fn cluster_ip(spec: &ServiceSpec, family: Family) -> Option<IpAddr> {
    let many = spec.cluster_ips.iter().flatten();
    many.chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).find(|ip| family.has(*ip))
}

fn parse<'a, T: std::str::FromStr>(texts: impl Iterator<Item = &'a String>) -> impl Iterator<Item = T> {
    texts.filter_map(|text| text.trim().parse().ok())
}

/// Whether a service may take packets for an address from the machine: never those that it sends to itself or its link.
fn is_catchable(ip: IpAddr) -> bool {
    is_unicast(ip)
}

/// Addresses of load balancers that hand packets on as they are; those that proxy are not ours to catch.
fn balancer_ips(service: &Service) -> impl Iterator<Item = IpAddr> {
    let ingress = service.status.iter().flat_map(|status| &status.load_balancer).flat_map(|balancer| balancer.ingress.iter().flatten());
    let direct = ingress.filter(|point| point.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
    direct.filter_map(|point| point.ip.as_deref()?.parse().ok()).filter(|ip| is_catchable(*ip))
}

fn affinity(spec: &ServiceSpec) -> Option<i32> {
    let configured = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    (spec.session_affinity.as_deref() == Some("ClientIP")).then_some(configured.unwrap_or(DEFAULT_AFFINITY_SECONDS))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_that_would_end_its_quotes_gets_no_rules() {
        let ports = |name: &str| {
            let port = json!({"port": 80, "name": name});
            let service = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"clusterIP": "10.0.0.1", "ports": [port]}});
            PortView::of(&serde_json::from_value(service).expect("a service"), Family::V4).len()
        };
        assert_eq!((ports("http"), ports("a\" -j ACCEPT"), ports("a\n-A INPUT -j ACCEPT")), (1, 0, 0));
    }
}

//! Which endpoints of a service port this node sends traffic to.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use troupe_addresses::is_unicast;
use troupe_net::iptables::Family;

use super::service::PortView;

/// One endpoint of a service port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointView {
    pub ip: IpAddr,
    pub port: u16,
    /// On this node.
    pub local: bool,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// Nodes and zones whose traffic it prefers.
    pub nodes: Vec<String>,
    pub zones: Vec<String>,
}

impl EndpointView {
    /// As rules name it.
    pub fn address(&self) -> String {
        SocketAddr::new(self.ip, self.port).to_string()
    }

    fn is_draining(&self) -> bool {
        self.serving && self.terminating
    }
}

/// What all slices of a Service say, read once for all of its ports.
pub struct Backends<'a> {
    /// By the name and protocol of a service port: slices, by their place, and the number of the port there.
    ports: HashMap<(&'a str, &'static str), Vec<(usize, u16)>>,
    /// The endpoints of each slice, without a port.
    slices: Vec<Vec<EndpointView>>,
}

impl<'a> Backends<'a> {
    /// Of the slices that list addresses of a family.
    pub fn of(slices: &'a [Arc<EndpointSlice>], node_name: &str, family: Family) -> Self {
        let mut backends = Backends { ports: HashMap::new(), slices: Vec::new() };
        for slice in slices.iter().filter(|slice| slice.address_type == family.name()) {
            for port in slice.ports.iter().flatten() {
                let (Some(protocol), Some(number)) = (protocol(port.protocol.as_deref()), port_number(port.port)) else { continue };
                let places = backends.ports.entry((port.name.as_deref().unwrap_or_default(), protocol)).or_default();
                places.push((backends.slices.len(), number));
            }
            backends.slices.push(endpoints(slice, node_name, family));
        }
        backends
    }

    /// How many times slices list an endpoint for a service port.
    pub fn count(&self, port: &PortView) -> usize {
        self.places(port).iter().map(|(slice, _)| self.slices[*slice].len()).sum()
    }

    fn places<'b>(&'b self, port: &'b PortView) -> &'b [(usize, u16)] {
        self.ports.get(&(port.name.as_str(), port.protocol)).map_or(&[], Vec::as_slice)
    }

    /// The endpoints of a service port. One that several slices list counts once, ready if any says so.
    pub fn endpoints(&self, port: &PortView) -> Vec<EndpointView> {
        let mut found: BTreeMap<(IpAddr, u16), &EndpointView> = BTreeMap::new();
        for (slice, number) in self.places(port) {
            for endpoint in &self.slices[*slice] {
                let slot = found.entry((endpoint.ip, *number)).or_insert(endpoint);
                if endpoint.ready && !slot.ready {
                    *slot = endpoint;
                }
            }
        }
        found.into_iter().map(|((_, port), endpoint)| EndpointView { port, ..endpoint.clone() }).collect()
    }
}

/// A protocol as service ports name it.
fn protocol(name: Option<&str>) -> Option<&'static str> {
    ["tcp", "udp", "sctp"].into_iter().find(|known| known.eq_ignore_ascii_case(name.unwrap_or("TCP")))
}

fn port_number(port: Option<i32>) -> Option<u16> {
    u16::try_from(port?).ok().filter(|number| *number != 0)
}

fn endpoints(slice: &EndpointSlice, node_name: &str, family: Family) -> Vec<EndpointView> {
    let view = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let hints = endpoint.hints.clone().unwrap_or_default();
        Some(EndpointView {
            ip: endpoint.addresses.first()?.parse().ok().filter(|ip: &IpAddr| family.has(*ip) && is_unicast(*ip))?,
            port: 0,
            local: endpoint.node_name.as_deref() == Some(node_name),
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            nodes: hints.for_nodes.unwrap_or_default().into_iter().map(|node| node.name).collect(),
            zones: hints.for_zones.unwrap_or_default().into_iter().map(|zone| zone.name).collect(),
        })
    };
    slice.endpoints.iter().flatten().filter_map(view).collect()
}

/// The label of a node that tells its zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// Where this node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    pub node: String,
    /// What its label [`ZONE`] says, or empty.
    pub zone: String,
}

/// The endpoints for each traffic policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// For the Cluster policy; empty when the port never uses it.
    pub cluster: Vec<EndpointView>,
    /// For the Local policy; empty when the port never uses it.
    pub local: Vec<EndpointView>,
    /// Any usable endpoint on any node.
    pub any: bool,
}

impl Choice {
    /// Ready endpoints, or those that still serve while they end when none is ready: for each policy by itself.
    pub fn of(port: &PortView, endpoints: &[EndpointView], location: &Location) -> Choice {
        let mut choice = Choice::default();
        let pick = |accept: &dyn Fn(&EndpointView) -> bool| endpoints.iter().filter(|endpoint| accept(endpoint)).cloned().collect::<Vec<_>>();
        if port.uses_cluster_endpoints() {
            let near = Preference::of(endpoints, location);
            choice.cluster = pick(&|endpoint| endpoint.ready && near.takes(endpoint, location));
            if choice.cluster.is_empty() {
                choice.cluster = pick(&EndpointView::is_draining);
            }
            choice.any = !choice.cluster.is_empty();
        }
        if port.uses_local_endpoints() {
            choice.any |= endpoints.iter().any(|endpoint| endpoint.ready || endpoint.is_draining());
            choice.local = pick(&|endpoint| endpoint.local && endpoint.ready);
            if choice.local.is_empty() {
                choice.local = pick(&|endpoint| endpoint.local && endpoint.is_draining());
            }
        }
        choice
    }

    /// Both lists, without repetition.
    pub fn reachable(&self) -> Vec<&EndpointView> {
        let both: BTreeMap<_, _> = self.cluster.iter().chain(&self.local).map(|endpoint| ((endpoint.ip, endpoint.port), endpoint)).collect();
        both.into_values().collect()
    }
}

/// Which hints are obeyed: only hints that every ready endpoint has, and that leave this node something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preference {
    None,
    SameNode,
    SameZone,
}

impl Preference {
    fn of(endpoints: &[EndpointView], location: &Location) -> Preference {
        let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
        if ready().next().is_none() {
            return Preference::None;
        }
        if ready().all(|endpoint| !endpoint.nodes.is_empty()) && ready().any(|endpoint| endpoint.nodes.contains(&location.node)) {
            return Preference::SameNode;
        }
        if ready().all(|endpoint| !endpoint.zones.is_empty()) && ready().any(|endpoint| endpoint.zones.contains(&location.zone)) {
            return Preference::SameZone;
        }
        Preference::None
    }

    fn takes(self, endpoint: &EndpointView, location: &Location) -> bool {
        match self {
            Preference::None => true,
            Preference::SameNode => endpoint.nodes.contains(&location.node),
            Preference::SameZone => endpoint.zones.contains(&location.zone),
        }
    }
}

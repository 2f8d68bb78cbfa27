//! Which clients an endpoint prefers (`spec.trafficDistribution`, KEP-4444 and KEP-3015). Pure.

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{EndpointHints, ForNode, ForZone},
};

/// Annotations that ask for hints by the zones' capacity instead, the first that is there counts. Who asks gets none by `trafficDistribution`.
const TOPOLOGY_MODES: [&str; 2] = ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];

/// Whether a Service asks for hints by the zones' capacity.
pub fn asks_for_topology(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let mode = TOPOLOGY_MODES.iter().find_map(|name| annotations?.get(*name));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// How near clients are to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    SameZone,
    SameNode,
}

impl TrafficDistribution {
    /// What a Service asks for; `PreferClose` is the older name of `PreferSameZone`.
    pub fn of(service: &Service) -> Option<Self> {
        if asks_for_topology(service) {
            return None;
        }
        match service.spec.as_ref()?.traffic_distribution.as_deref()? {
            "PreferClose" | "PreferSameZone" => Some(TrafficDistribution::SameZone),
            "PreferSameNode" => Some(TrafficDistribution::SameNode),
            _ => None,
        }
    }

    /// The hints of an endpoint on that node in that zone.
    pub fn hints(self, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
        let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
        let node = node.filter(|_| self == TrafficDistribution::SameNode);
        let for_nodes = node.map(|node| vec![ForNode { name: node.to_owned() }]);
        (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
    }
}

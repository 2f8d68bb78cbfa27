//! Which clients an endpoint prefers (`spec.trafficDistribution`, KEP-4444 and KEP-3015). Pure.

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{EndpointHints, ForNode, ForZone},
};

/// Annotations that ask for hints by the zones' capacity instead, the first that is there counts. Who asks gets none by `trafficDistribution`.
const TOPOLOGY_MODES: [&str; 2] = ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];

/// The values that a Service may ask by. `PreferClose` is the older name of `PreferSameZone`.
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];

/// Whether a Service asks for hints by the zones' capacity.
pub fn asks_for_topology(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let mode = TOPOLOGY_MODES.iter().find_map(|name| annotations?.get(*name));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// The value by which a Service asks for hints, if it is one that counts.
pub fn asked_by(service: &Service) -> Option<&'static str> {
    if asks_for_topology(service) {
        return None;
    }
    let asked = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    DISTRIBUTIONS.into_iter().find(|known| *known == asked)
}

/// How near clients are to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    SameZone,
    SameNode,
}

impl TrafficDistribution {
    /// What a Service asks for.
    pub fn of(service: &Service) -> Option<Self> {
        let asked = asked_by(service)?;
        Some(if asked == "PreferSameNode" { TrafficDistribution::SameNode } else { TrafficDistribution::SameZone })
    }

    /// The hints of an endpoint on that node in that zone.
    pub fn hints(self, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
        let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
        let node = node.filter(|_| self == TrafficDistribution::SameNode);
        let for_nodes = node.map(|node| vec![ForNode { name: node.to_owned() }]);
        (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
    }
}

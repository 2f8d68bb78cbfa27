//! What a pod takes from its node.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::ObjectKey;

use super::resources::{Resources, nonzero_pod_requests, pod_requests};

/// The IP that stands for all.
const EVERYWHERE: &str = "0.0.0.0";

/// A host port that is taken: IP, protocol, port. The IP `0.0.0.0` collides with every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// A TCP port of all addresses.
    pub fn everywhere(port: i32) -> Self {
        HostPort { ip: EVERYWHERE.into(), protocol: "TCP".into(), port }
    }

    /// Where a daemon listens.
    pub fn listening(address: SocketAddr) -> Self {
        let port = HostPort::everywhere(address.port().into());
        if address.ip().is_unspecified() { port } else { HostPort { ip: address.ip().to_string(), ..port } }
    }

    /// Whether both cannot be had at once.
    pub fn collides(&self, other: &HostPort) -> bool {
        let everywhere = |ip: &str| ip == EVERYWHERE;
        self.port == other.port && self.protocol == other.protocol && (self.ip == other.ip || everywhere(&self.ip) || everywhere(&other.ip))
    }
}

/// What a pod takes from its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub key: ObjectKey,
    pub requests: Resources,
    pub nonzero: Resources,
    pub ports: Vec<HostPort>,
}

impl Demand {
    pub fn of(pod: &Pod) -> Self {
        let key = ObjectKey::new(pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
        Demand { key, requests: pod_requests(pod), nonzero: nonzero_pod_requests(pod), ports: host_ports(pod) }
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| EVERYWHERE.into());
            Some(HostPort { ip, protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()), port: number })
        })
        .collect()
}

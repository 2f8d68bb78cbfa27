//! Where the backend of a proxy request is. Pure over cached objects.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Pod, Service};
use troupe_api::status::Status;

use crate::backends::{
    may_reach,
    place::{Kubelet, KubeletAddress},
};

/// The parts of `[scheme:]name[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// `http`, `https` or nothing.
    pub scheme: &'a str,
    pub name: &'a str,
    /// A number or a name, or nothing.
    pub port: &'a str,
}

impl<'a> Wanted<'a> {
    /// `None` when the name does not have that form.
    pub fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some(Wanted { scheme, name, port })
    }

    fn is_https(&self) -> bool {
        self.scheme == "https"
    }
}

/// A backend's address and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub address: KubeletAddress,
    pub transport: Transport,
}

/// How a backend is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    Http,
    /// TLS with whatever certificate it has.
    Https,
    /// The kubelet of this node, with the API server's own certificate.
    Kubelet {
        node: String,
    },
}

impl Backend {
    fn new(wanted: &Wanted<'_>, host: &str, port: Option<u16>) -> Self {
        let (transport, default) = if wanted.is_https() { (Transport::Https, 443) } else { (Transport::Http, 80) };
        Backend { address: KubeletAddress { host: host.into(), port: port.unwrap_or(default) }, transport }
    }

    /// Whether a cluster's pods and nodes may have this address: those of the server's own host and link may not be reached.
    ///
    /// # Errors
    /// 400 in upstream's words.
    pub fn checked(self, loopback: bool) -> Result<Self, Status> {
        let ip = self.address.host.parse::<IpAddr>();
        if ip.is_ok_and(|ip| may_reach(ip, loopback)) {
            return Ok(self);
        }
        Err(Status::bad_request("address not allowed"))
    }

    /// `host:port` as URLs have it.
    pub fn authority(&self) -> String {
        self.address.authority()
    }
}

/// The port of a number, or of a name that is one.
fn number(port: &str) -> Result<Option<u16>, Status> {
    if port.is_empty() {
        return Ok(None);
    }
    port.parse().map(Some).map_err(|_| Status::bad_request(format!("invalid port {port:?}")))
}

/// All addresses of a pod.
pub fn pod_ips(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.iter();
    status.flat_map(|status| status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref()))
}

/// A pod, at the port that is named or the first one that a container declares.
pub fn of_pod(wanted: &Wanted<'_>, pod: &Pod) -> Result<Backend, Status> {
    let declared = || {
        let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        containers.find_map(|container| u16::try_from(container.ports.as_ref()?.first()?.container_port).ok())
    };
    let port = number(wanted.port)?.or_else(declared);
    Ok(Backend::new(wanted, pod_ips(pod).next().unwrap_or_default(), port))
}

/// The name of a service's port.
pub fn port_name(service: &Service, number: i32, name: &str) -> Result<String, Status> {
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.find(|port| port.port == number);
    let missing = || Status::unavailable(format!("no service port {number} found for service {name:?}"));
    Ok(found.ok_or_else(missing)?.name.clone().unwrap_or_default())
}

/// One of the pods behind a service. Addresses that `is_pod` does not know are left alone.
pub fn of_endpoints(
    wanted: &Wanted<'_>,
    port: &str,
    endpoints: &Endpoints,
    is_pod: impl Fn(&str, &str) -> bool,
    id: &str,
) -> Result<Backend, Status> {
    let subsets = endpoints.subsets.as_deref().unwrap_or_default();
    if subsets.is_empty() {
        return Err(Status::unavailable(format!("no endpoints available for service {:?}", wanted.name)));
    }
    for subset in turned(subsets) {
        let Some(number) = subset_port(subset, port) else { continue };
        let is_valid =
            |address: &&EndpointAddress| address.target_ref.as_ref().is_some_and(|to| is_pod(to.name.as_deref().unwrap_or_default(), &address.ip));
        if let Some(address) = turned(subset.addresses.as_deref().unwrap_or_default()).find(is_valid) {
            return Ok(Backend::new(wanted, &address.ip, Some(number)));
        }
    }
    Err(Status::unavailable(format!("no endpoints available for service {id:?}")))
}

fn subset_port(subset: &EndpointSubset, name: &str) -> Option<u16> {
    let found = subset.ports.iter().flatten().find(|port| port.name.as_deref().unwrap_or_default() == name)?;
    u16::try_from(found.port).ok()
}

/// All items from a random one on.
fn turned<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let start = if items.is_empty() { 0 } else { rand::random_range(0..items.len()) };
    items[start..].iter().chain(&items[..start])
}

/// A node's kubelet, or another port of the node.
pub fn of_node(wanted: &Wanted<'_>, kubelet: Kubelet) -> Result<Backend, Status> {
    match number(wanted.port)? {
        Some(port) if port != kubelet.address.port => Ok(Backend::new(wanted, &kubelet.address.host, Some(port))),
        _ => Ok(Backend { address: kubelet.address, transport: Transport::Kubelet { node: kubelet.node } }),
    }
}

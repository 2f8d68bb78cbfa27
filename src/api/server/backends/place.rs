//! Where a pod's container is: which container is meant, on which node, at which kubelet. Pure over cached objects.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use troupe_api::status::{Reason, Status};

/// The kubelet of nodes that do not tell their port.
const KUBELET_PORT: u16 = 10250;
/// Which of a node's addresses to dial, best first.
const PREFERRED: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];

/// A kubelet's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletAddress {
    /// An IP or a host name.
    pub host: String,
    pub port: u16,
}

impl KubeletAddress {
    /// `host:port` as URLs have it.
    pub fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A node's kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    /// The node whose certificate it must show.
    pub node: String,
    pub address: KubeletAddress,
}

/// The container that a request means; without a name the pod must have just one.
///
/// # Errors
/// 400 in upstream's words.
pub fn choose_container(pod: &Pod, wanted: &str) -> Result<String, Status> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    if !wanted.is_empty() {
        return match names(spec).any(|known| known == wanted) {
            true => Ok(wanted.to_owned()),
            false => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        };
    }
    match &spec.containers[..] {
        [only] => Ok(only.name.clone()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        _ => {
            let all = names(spec).collect::<Vec<_>>().join(" ");
            Err(Status::bad_request(format!("a container name must be specified for pod {name}, choose one of: [{all}]")))
        }
    }
}

/// Every container's name: init, ordinary, ephemeral, as upstream visits them.
fn names(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let init = spec.init_containers.iter().flatten().map(|container| container.name.as_str());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.name.as_str());
    init.chain(spec.containers.iter().map(|container| container.name.as_str())).chain(ephemeral)
}

/// The node that a pod is bound to; empty before it is.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// The 400 of a pod without a node.
pub fn no_host(name: &str) -> Status {
    Status::bad_request(format!("pod {name} does not have a host assigned"))
}

/// Where a node's kubelet listens.
///
/// # Errors
/// When the node tells no address.
pub fn kubelet_address(node: &Node) -> Result<KubeletAddress, Status> {
    let status = node.status.as_ref();
    let port = status.and_then(|status| status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref()).map_or(0, |endpoint| endpoint.port);
    let port = u16::try_from(port).ok().filter(|port| *port != 0).unwrap_or(KUBELET_PORT);
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let found = PREFERRED.iter().find_map(|kind| addresses.iter().find(|address| address.type_ == *kind));
    match found {
        Some(address) => Ok(KubeletAddress { host: address.address.clone(), port }),
        None => Err(Status::new(500, Reason::Unknown, "no preferred addresses found; known addresses: []")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    #[test]
    fn the_only_container_needs_no_name_and_others_are_listed() {
        let one = pod(json!({"containers": [{"name": "a"}]}));
        assert_eq!(choose_container(&one, ""), Ok("a".into()));
        let two = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]}));
        let message = choose_container(&two, "").expect_err("ambiguous").message;
        assert_eq!(message, "a container name must be specified for pod p, choose one of: [i a b]");
        assert_eq!(choose_container(&two, "i"), Ok("i".into()));
        assert_eq!(choose_container(&two, "x").expect_err("unknown").message, "container x is not valid for pod p");
    }

    #[test]
    fn the_internal_address_and_the_nodes_port_are_dialled() {
        let node: Node = serde_json::from_value(json!({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}},
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "fd00::1"}]}}))
        .expect("a node");
        assert_eq!(kubelet_address(&node).expect("an address").authority(), "[fd00::1]:1234");
        assert!(kubelet_address(&Node::default()).is_err());
    }
}

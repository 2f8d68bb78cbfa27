//! Which addresses the cluster has, as its objects come over the wire: to these no domain name leads.

use serde::Deserialize;
use troupe_net::dns::{
    cluster_addresses::is_of_servers,
    view::{Meta, Service, Slice},
};

/// `v1` Node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClusterNode {
    pub metadata: Meta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    address: String,
}

impl ClusterNode {
    /// Its addresses, and the ranges of its pods.
    pub fn told(&self) -> Vec<String> {
        let addresses = self.status.addresses.iter().map(|address| &address.address);
        addresses.chain(&self.spec.pod_cidrs).chain([&self.spec.pod_cidr]).cloned().collect()
    }
}

/// `networking.k8s.io/v1` ServiceCIDR.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceRange {
    pub metadata: Meta,
    spec: RangeSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RangeSpec {
    cidrs: Vec<String>,
}

impl ServiceRange {
    /// The ranges, whether they are Ready or not.
    pub fn told(&self) -> Vec<String> {
        self.spec.cidrs.clone()
    }
}

/// What a Service is called by.
pub fn name_of(meta: &Meta) -> String {
    format!("{}/{}", meta.namespace, meta.name)
}

/// The external addresses of a Service, and those of its load balancers; most have none.
pub fn of_service(service: &Service) -> Vec<String> {
    service.outside().map(str::to_owned).collect()
}

/// The addresses of API servers and DNS servers, of a slice that has such.
pub fn of_slice(slice: &Slice) -> Vec<String> {
    let is_theirs = slice.service().is_some_and(|service| is_of_servers(&slice.metadata.namespace, service));
    let endpoints = slice.endpoints.iter().filter(|_| is_theirs);
    endpoints.flat_map(|endpoint| endpoint.ips()).map(|ip| ip.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_tell_all_their_addresses() {
        let node = json!({"metadata": {"name": "one"}, "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}, {"type": "Hostname", "address": "one"}]}});
        let node: ClusterNode = serde_json::from_value(node).expect("a node");
        assert_eq!(node.told(), ["192.0.2.2", "one", "10.244.1.0/24", "fd00::/64", "10.244.1.0/24"]);
        let range: ServiceRange = serde_json::from_value(json!({"spec": {"cidrs": ["10.96.0.0/16"]}})).expect("a range");
        assert_eq!(range.told(), ["10.96.0.0/16"]);
        let service = json!({"spec": {"clusterIP": "10.96.0.9", "externalIPs": ["198.51.100.20"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}});
        assert_eq!(of_service(&serde_json::from_value(service).expect("a service")), ["198.51.100.20", "203.0.113.9"]);
    }

    #[test]
    fn slices_tell_of_servers_alone() {
        let slice = |namespace: &str, service: &str| {
            let labels = json!({"kubernetes.io/service-name": service});
            let slice = json!({"metadata": {"namespace": namespace, "name": "s", "labels": labels}, "endpoints": [{"addresses": ["192.0.2.1"]}]});
            of_slice(&serde_json::from_value(slice).expect("a slice"))
        };
        assert_eq!(slice("default", "kubernetes"), ["192.0.2.1"]);
        assert_eq!(slice("kube-system", "kube-dns"), ["192.0.2.1"]);
        assert!(slice("shop", "kubernetes").is_empty() && slice("default", "web").is_empty());
    }
}

//! What the scheduler knows of a node: the node and the sum of what runs there.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use troupe_api::meta::{ObjectKey, quantity::Quantity};

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

/// What a pod takes from its node: all that is kept of a pod once it has one.
#[derive(Clone, Debug)]
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

/// A pod that wants a node, with what plugins need computed once.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub demand: Demand,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        PodInfo { demand: Demand::of(&pod), pod }
    }

    pub fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
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

/// A node and what its pods take. Cloned when it changes, shared otherwise.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub name: Arc<str>,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub requested: Resources,
    pub nonzero_requested: Resources,
    pub pods: HashMap<ObjectKey, Arc<Demand>>,
}

impl NodeInfo {
    pub fn new(node: Arc<Node>) -> Self {
        let name = Arc::from(node.metadata.name.as_deref().unwrap_or_default());
        let mut info = NodeInfo {
            node: node.clone(),
            name,
            allocatable: Resources::default(),
            allowed_pods: 0,
            requested: Resources::default(),
            nonzero_requested: Resources::default(),
            pods: HashMap::new(),
        };
        info.set_node(node);
        info
    }

    /// Takes over a new version of the node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        self.allocatable = Resources::from_list(allocatable);
        self.allowed_pods = allocatable.and_then(|list| Quantity::parse(&list.get("pods")?.0).ok()).map_or(0, |pods| pods.value());
        self.node = node;
    }

    pub fn add_pod(&mut self, pod: Arc<Demand>) {
        self.remove_pod(&pod.key);
        self.requested.add(&pod.requests);
        self.nonzero_requested.add(&pod.nonzero);
        self.pods.insert(pod.key.clone(), pod);
    }

    /// From a sum that reached the largest number nothing can be taken away.
    fn count_again(&mut self) {
        self.requested = Resources::default();
        self.nonzero_requested = Resources::default();
        for pod in self.pods.values() {
            self.requested.add(&pod.requests);
            self.nonzero_requested.add(&pod.nonzero);
        }
    }

    pub fn remove_pod(&mut self, key: &ObjectKey) {
        let full = self.requested.is_full() || self.nonzero_requested.is_full();
        if let Some(pod) = self.pods.remove(key) {
            self.requested.subtract(&pod.requests);
            self.nonzero_requested.subtract(&pod.nonzero);
            if full {
                self.count_again();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_asks_for_the_largest_numbers_leaves_no_trace() {
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "4Gi"}}});
        let mut info = NodeInfo::new(Arc::new(serde_json::from_value(node).expect("a node")));
        let demand = |name: &str, amount: &str| {
            let requests = json!({"cpu": amount, "memory": amount, "ephemeral-storage": amount, "example.com/a": amount});
            let pod = json!({"metadata": {"name": name}, "spec": {"overhead": requests,
                "containers": [{"name": "c", "resources": {"requests": requests}}]}});
            Arc::new(Demand::of(&serde_json::from_value(pod).expect("a pod")))
        };
        info.add_pod(demand("small", "1"));
        let (requested, nonzero) = (info.requested.clone(), info.nonzero_requested.clone());
        let huge = ["9223372036854775807", "7Ei", "1e18"];
        for amount in huge {
            info.add_pod(demand(amount, amount));
        }
        assert_eq!((info.requested.cpu, info.requested.memory, info.requested.scalar("example.com/a")), (i64::MAX, i64::MAX, i64::MAX));
        for amount in huge {
            info.remove_pod(&demand(amount, "1").key);
        }
        assert_eq!((&info.requested, &info.nonzero_requested), (&requested, &nonzero));
    }
}

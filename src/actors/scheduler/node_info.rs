//! What the scheduler knows of a node: the node and the sum of what runs there.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use troupe_api::meta::{ObjectKey, quantity::Quantity};

use super::resources::{Resources, nonzero_pod_requests, pod_requests};

/// A host port that is taken: IP, protocol, port. The IP `0.0.0.0` collides with every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had at once.
    pub fn collides(&self, other: &HostPort) -> bool {
        let everywhere = |ip: &str| ip == "0.0.0.0";
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
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
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

    pub fn remove_pod(&mut self, key: &ObjectKey) {
        if let Some(pod) = self.pods.remove(key) {
            self.requested.subtract(&pod.requests);
            self.nonzero_requested.subtract(&pod.nonzero);
        }
    }
}

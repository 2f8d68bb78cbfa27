//! What the scheduler knows of a node: the node and the sum of what runs there.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use k8s_openapi::{
    api::core::v1::{Node, NodeStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::meta::{ObjectKey, quantity::Quantity};

use super::{
    footprint::Footprint,
    placed_pod::PlacedPod,
    resources::Resources,
    tolerations::{is_cordoned, taints},
};

/// A node and what its pods take. Cloned when it changes, shared otherwise.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub name: Arc<str>,
    /// Its place in the snapshot's list.
    pub at: usize,
    /// It is unschedulable.
    pub is_cordoned: bool,
    pub has_taints: bool,
    /// Sizes of the images that it has, in bytes.
    pub images: Arc<HashMap<Arc<str>, i64>>,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub requested: Resources,
    pub nonzero_requested: Resources,
    pub pods: HashMap<ObjectKey, Arc<PlacedPod>>,
    /// Made when somebody asks, as long as no pod comes or goes.
    footprints: OnceLock<Arc<[Footprint]>>,
}

/// What pods of a node take together.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    pub requested: &'a Resources,
    /// How many they are.
    pub pods: usize,
}

impl NodeInfo {
    /// A node without pods, at a place of the snapshot's list.
    pub fn new(node: Arc<Node>, at: usize) -> Self {
        let name = Arc::from(node.metadata.name.as_deref().unwrap_or_default());
        let mut info = NodeInfo {
            // The first version comes below: it differs from this one in everything.
            node: Arc::default(),
            name,
            at,
            is_cordoned: false,
            has_taints: false,
            images: Arc::default(),
            allocatable: Resources::default(),
            allowed_pods: 0,
            requested: Resources::default(),
            nonzero_requested: Resources::default(),
            pods: HashMap::new(),
            footprints: OnceLock::new(),
        };
        info.set_node(node);
        info
    }

    /// What all of its pods take.
    pub fn taken(&self) -> Taken<'_> {
        Taken { requested: &self.requested, pods: self.pods.len() }
    }

    /// What each of its pods would leave behind, the most important ones first.
    pub fn footprints(&self) -> &Arc<[Footprint]> {
        self.footprints.get_or_init(|| Footprint::by_importance(self.pods.values()))
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Takes over a new version of the node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let images = image_sizes(&node);
        if *self.images != images {
            self.images = Arc::new(images);
        }
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        self.allocatable = Resources::from_list(allocatable);
        self.allowed_pods = allocatable.and_then(|list| Quantity::parse(&list.get("pods")?.0).ok()).map_or(0, |pods| pods.value());
        self.is_cordoned = is_cordoned(&node);
        self.has_taints = !taints(&node).is_empty();
        self.node = node;
    }

    /// Keeps of the node no more than plugins ask about.
    pub fn slim(&mut self) {
        let Node { metadata, spec, status } = &*self.node;
        let metadata =
            ObjectMeta { name: metadata.name.clone(), uid: metadata.uid.clone(), labels: metadata.labels.clone(), ..ObjectMeta::default() };
        let status = status.as_ref().map(|status| NodeStatus {
            allocatable: status.allocatable.clone(),
            daemon_endpoints: status.daemon_endpoints.clone(),
            declared_features: status.declared_features.clone(),
            ..NodeStatus::default()
        });
        self.node = Arc::new(Node { metadata, spec: spec.clone(), status });
    }

    pub fn add_pod(&mut self, pod: Arc<PlacedPod>) {
        self.remove_pod(pod.key());
        self.footprints = OnceLock::new();
        self.requested.add(&pod.demand.requests);
        self.nonzero_requested.add(&pod.demand.nonzero);
        self.pods.insert(pod.key().clone(), pod);
    }

    /// From a sum that reached the largest number nothing can be taken away.
    fn count_again(&mut self) {
        self.requested = Resources::default();
        self.nonzero_requested = Resources::default();
        for pod in self.pods.values() {
            self.requested.add(&pod.demand.requests);
            self.nonzero_requested.add(&pod.demand.nonzero);
        }
    }

    pub fn remove_pod(&mut self, key: &ObjectKey) {
        let full = self.requested.is_full() || self.nonzero_requested.is_full();
        if let Some(pod) = self.pods.remove(key) {
            self.footprints = OnceLock::new();
            self.requested.subtract(&pod.demand.requests);
            self.nonzero_requested.subtract(&pod.demand.nonzero);
            if full {
                self.count_again();
            }
        }
    }
}

/// Sizes by every name of an image.
fn image_sizes(node: &Node) -> HashMap<Arc<str>, i64> {
    let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
    images.flat_map(|image| image.names.iter().flatten().map(|name| (Arc::from(name.as_str()), image.size_bytes.unwrap_or(0)))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scheduler::intake::is_same_to_plugins;

    #[test]
    fn what_is_kept_of_a_node_is_all_that_plugins_ask_about() {
        let node = json!({
            "metadata": {"name": "n", "labels": {"zone": "a"}, "annotations": {"large": "x"}},
            "spec": {"unschedulable": true, "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "2"}, "capacity": {"cpu": "4"}, "declaredFeatures": ["F"], "images": [{"names": ["i"], "sizeBytes": 7}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let whole: Node = serde_json::from_value(node).expect("a node");
        let mut info = NodeInfo::new(Arc::new(whole.clone()), 0);
        let images: HashMap<Arc<str>, i64> = HashMap::from([(Arc::from("i"), 7)]);
        info.slim();
        assert!(is_same_to_plugins(&info.node, &whole) && *info.images == images);
        let endpoints = |node: &Node| node.status.as_ref().and_then(|status| status.daemon_endpoints.clone());
        assert_eq!(endpoints(&info.node), endpoints(&whole));
        assert_eq!(info.node.metadata.annotations, None);
        let without_images = |mut node: Node| {
            node.status.as_mut().expect("a status").images = None;
            Arc::new(node)
        };
        info.set_node(Arc::new(whole.clone()));
        assert_eq!(*info.images, images);
        info.slim();
        info.set_node(without_images(whole));
        assert!(info.images.is_empty(), "they are removed");
    }

    #[test]
    fn what_asks_for_the_largest_numbers_leaves_no_trace() {
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "4Gi"}}});
        let mut info = NodeInfo::new(Arc::new(serde_json::from_value(node).expect("a node")), 0);
        let demand = |name: &str, amount: &str| {
            let requests = json!({"cpu": amount, "memory": amount, "ephemeral-storage": amount, "example.com/a": amount});
            let pod = json!({"metadata": {"name": name}, "spec": {"overhead": requests,
                "containers": [{"name": "c", "resources": {"requests": requests}}]}});
            Arc::new(PlacedPod::of(&serde_json::from_value(pod).expect("a pod")))
        };
        info.add_pod(demand("small", "1"));
        assert_eq!(info.footprints().len(), 1);
        let (requested, nonzero) = (info.requested.clone(), info.nonzero_requested.clone());
        let huge = ["9223372036854775807", "7Ei", "1e18"];
        for amount in huge {
            info.add_pod(demand(amount, amount));
        }
        assert_eq!((info.footprints().len(), info.taken().pods), (4, 4));
        assert_eq!((info.requested.cpu, info.requested.memory, info.requested.scalar("example.com/a")), (i64::MAX, i64::MAX, i64::MAX));
        for amount in huge {
            info.remove_pod(demand(amount, "1").key());
        }
        assert_eq!(info.footprints().len(), 1);
        assert_eq!((&info.requested, &info.nonzero_requested), (&requested, &nonzero));
    }
}

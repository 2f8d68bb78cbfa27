//! The scheduler's view of the cluster. Only what changed since the last decision is copied.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use troupe_api::meta::ObjectKey;

use super::node_info::{Demand, NodeInfo};

/// Nodes with their pods; pods that were bound but are not yet seen bound count as there ("assumed").
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order nodes became known: decisions go round this list.
    nodes: Vec<Arc<NodeInfo>>,
    index: HashMap<Arc<str>, usize>,
    /// Node of each pod that is counted somewhere.
    placed: HashMap<ObjectKey, Arc<str>>,
    /// Pods of nodes that are not known (yet).
    waiting: HashMap<ObjectKey, (Arc<str>, Arc<Demand>)>,
}

impl Snapshot {
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(*self.index.get(name)?)
    }

    /// Takes in a new or changed node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        if let Some(at) = self.index.get(&name) {
            Arc::make_mut(&mut self.nodes[*at]).set_node(node);
            return;
        }
        let mut info = NodeInfo::new(node);
        self.waiting.retain(|key, (wanted, pod)| {
            let here = *wanted == name;
            if here {
                info.add_pod(pod.clone());
                self.placed.insert(key.clone(), name.clone());
            }
            !here
        });
        self.index.insert(name, self.nodes.len());
        self.nodes.push(Arc::new(info));
    }

    /// Forgets a node; its pods wait in case it comes back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else { return };
        let info = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.name.clone(), at);
        }
        for (key, pod) in &info.pods {
            self.placed.remove(key);
            self.waiting.insert(key.clone(), (info.name.clone(), pod.clone()));
        }
    }

    /// Counts a pod on its node, replacing what was counted for it before. Whether it takes less of the node than before.
    pub fn set_pod(&mut self, node: &str, pod: &Pod) -> bool {
        let demand = Arc::new(Demand::of(pod));
        let before = self.placed.get(&demand.key).and_then(|node| self.nodes.get(*self.index.get(node)?)?.pods.get(&demand.key));
        let shrank = before.is_some_and(|before| before.requests.cpu > demand.requests.cpu || before.requests.memory > demand.requests.memory);
        self.remove_pod(&demand.key);
        match self.index.get(node) {
            Some(at) => {
                let node = &mut self.nodes[*at];
                self.placed.insert(demand.key.clone(), node.name.clone());
                Arc::make_mut(node).add_pod(demand);
            }
            None => {
                self.waiting.insert(demand.key.clone(), (node.into(), demand));
            }
        }
        shrank
    }

    /// Stops counting a pod.
    pub fn remove_pod(&mut self, key: &ObjectKey) {
        self.waiting.remove(key);
        if let Some(node) = self.placed.remove(key)
            && let Some(at) = self.index.get(&node)
        {
            Arc::make_mut(&mut self.nodes[*at]).remove_pod(key);
        }
    }

    /// Whether the pod is counted on a known node.
    pub fn node_of(&self, key: &ObjectKey) -> Option<&Arc<str>> {
        self.placed.get(key)
    }
}

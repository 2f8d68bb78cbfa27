//! Pods that wait for a node on which others were removed for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use troupe_api::meta::ObjectKey;

use crate::scheduler::placed_pod::PlacedPod;

/// Who is nominated to which node.
#[derive(Debug, Default)]
pub struct Nominations {
    by_node: HashMap<Arc<str>, BTreeMap<ObjectKey, Arc<PlacedPod>>>,
    node_of: HashMap<ObjectKey, Arc<str>>,
    /// How many of them require others to be far.
    apart: usize,
}

impl Nominations {
    pub fn is_empty(&self) -> bool {
        self.node_of.is_empty()
    }

    /// Whether some of them require others to be far.
    pub fn keep_apart(&self) -> bool {
        self.apart > 0
    }

    /// The nodes that somebody is nominated to.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_node.keys()
    }

    /// The pods nominated to a node.
    pub fn on(&self, node: &str) -> impl Iterator<Item = &Arc<PlacedPod>> {
        self.by_node.get(node).into_iter().flat_map(BTreeMap::values)
    }

    pub fn node_of(&self, key: &ObjectKey) -> Option<&Arc<str>> {
        self.node_of.get(key)
    }

    /// The pod as it was when it was nominated.
    pub fn pod(&self, key: &ObjectKey) -> Option<&Arc<PlacedPod>> {
        self.by_node.get(self.node_of.get(key)?)?.get(key)
    }

    /// Nominates a pod, in place of what was before.
    pub fn set(&mut self, pod: Arc<PlacedPod>, node: &str) {
        let key = pod.key().clone();
        self.remove(&key);
        let node: Arc<str> = node.into();
        self.apart += usize::from(keeps_apart(&pod));
        self.node_of.insert(key.clone(), node.clone());
        self.by_node.entry(node).or_default().insert(key, pod);
    }

    /// The pod waits for no node any more.
    pub fn remove(&mut self, key: &ObjectKey) {
        let Some(node) = self.node_of.remove(key) else { return };
        if let Some(pods) = self.by_node.get_mut(&node) {
            let pod = pods.remove(key);
            self.apart -= usize::from(pod.is_some_and(|pod| keeps_apart(&pod)));
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }
}

fn keeps_apart(pod: &PlacedPod) -> bool {
    !pod.terms.required_anti.is_empty()
}

//! The filters of all plugins for one pod.

use std::{collections::BTreeSet, sync::Arc};

use super::node_filter::{NodeFilter, Rejection};
use crate::scheduler::{node_info::NodeInfo, placed_pod::PlacedPod, pod_info::PodInfo, snapshot::Snapshot};

/// A plugin's name with why it rejected a node.
pub type PluginRejection = (&'static str, Rejection);

/// See the module.
pub struct Filters<'a> {
    pod: &'a PodInfo,
    cluster: &'a Snapshot,
    filters: Vec<(&'static str, Box<dyn NodeFilter + 'a>)>,
}

/// The only nodes that can do, with the plugins that said so.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NodeNames {
    pub names: Option<BTreeSet<String>>,
    pub plugins: Vec<&'static str>,
}

impl<'a> Filters<'a> {
    /// The filters of plugins that want to see nodes, by the plugins' names.
    pub fn new(pod: &'a PodInfo, cluster: &'a Snapshot, filters: Vec<(&'static str, Box<dyn NodeFilter + 'a>)>) -> Self {
        Filters { pod, cluster, filters }
    }

    /// Whether the pod can run on the node as it is.
    ///
    /// # Errors
    /// The first plugin that rejects it.
    pub fn ask(&self, node: &NodeInfo) -> Result<(), PluginRejection> {
        self.filters.iter().try_for_each(|(name, filter)| filter.filter(node).map_err(|rejection| (*name, rejection)))
    }

    /// What each plugin has against the node.
    pub fn ask_all(&self, node: &NodeInfo) -> Vec<PluginRejection> {
        self.filters.iter().filter_map(|(name, filter)| Some((*name, filter.filter(node).err()?))).collect()
    }

    /// Whether the pod can run on the node, both with and without the other pods nominated to it that are as important: it must
    /// neither take their place nor count on them.
    ///
    /// # Errors
    /// The first plugin that rejects it.
    pub fn ask_with_nominated(&mut self, node: &NodeInfo) -> Result<(), PluginRejection> {
        if !self.cluster.nominations().is_empty() {
            self.ask_beside_nominated(node)?;
        }
        self.ask(node)
    }

    fn ask_beside_nominated(&mut self, node: &NodeInfo) -> Result<(), PluginRejection> {
        let (pod, nominations) = (self.pod, self.cluster.nominations());
        let counts = |other: &&Arc<PlacedPod>| other.priority >= pod.priority() && other.key() != pod.key();
        let nominated: Vec<Arc<PlacedPod>> = nominations.on(&node.name).filter(counts).cloned().collect();
        if nominated.is_empty() {
            return Ok(());
        }
        let mut fuller = node.clone();
        nominated.iter().for_each(|other| self.add_pod(other, &mut fuller));
        let answer = self.ask(&fuller);
        nominated.iter().for_each(|other| self.remove_pod(other, &mut fuller));
        answer
    }

    /// A pod is thought to be on the node.
    pub fn add_pod(&mut self, pod: &Arc<PlacedPod>, node: &mut NodeInfo) {
        node.add_pod(pod.clone());
        self.filters.iter_mut().for_each(|(_, filter)| filter.add_pod(pod, node));
    }

    /// A pod is thought to be gone from the node.
    pub fn remove_pod(&mut self, pod: &Arc<PlacedPod>, node: &mut NodeInfo) {
        node.remove_pod(pod.key());
        self.filters.iter_mut().for_each(|(_, filter)| filter.remove_pod(pod, node));
    }
}

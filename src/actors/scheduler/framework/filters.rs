//! The filters of all plugins for one pod.

use std::{cell::Cell, collections::BTreeSet, sync::Arc};

use super::node_filter::{DependsOn, NodeFilter, Rejection};
use crate::scheduler::{
    node_info::{NodeInfo, Taken},
    placed_pod::PlacedPod,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// A plugin's name with why it rejected a node.
pub type PluginRejection = (&'static str, Rejection);

/// See the module.
pub struct Filters<'a> {
    pod: &'a PodInfo,
    cluster: &'a Snapshot,
    filters: Vec<(&'static str, Box<dyn NodeFilter + 'a>)>,
    /// Places of the filters that look at what pods take together; `None` if one looks at which pods there are.
    by_taken: Option<Vec<usize>>,
    /// Whether somebody is nominated to the node at a place; `None` before many nodes are asked about.
    nominated_at: Option<Vec<bool>>,
    /// How often each filter was asked.
    asked: Vec<Cell<u64>>,
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
        let by_taken = (0..filters.len()).filter(|at| filters[*at].1.depends_on() != DependsOn::Node).collect();
        let by_pods = filters.iter().any(|(_, filter)| filter.depends_on() == DependsOn::Pods);
        let asked = filters.iter().map(|_| Cell::default()).collect();
        Filters { pod, cluster, filters, by_taken: if by_pods { None } else { Some(by_taken) }, nominated_at: None, asked }
    }

    /// Many nodes will be asked about: it is noted which of them somebody is nominated to.
    pub fn note_nominated(&mut self) {
        let nominations = self.cluster.nominations();
        if nominations.is_empty() || self.nominated_at.is_some() {
            return;
        }
        let mut places = vec![false; self.cluster.nodes().len()];
        nominations.nodes().filter_map(|name| self.cluster.node(name)).for_each(|node| places[node.at] = true);
        self.nominated_at = Some(places);
    }

    /// Whether it makes no difference which pods a node has, but only what they take together.
    pub fn are_by_taken(&self) -> bool {
        self.by_taken.is_some()
    }

    /// Whether the pod could run on the node if its pods took this ([`Filters::are_by_taken`]).
    ///
    /// # Errors
    /// The first plugin that rejects it.
    pub fn ask_taken(&self, node: &NodeInfo, taken: Taken<'_>) -> Result<(), PluginRejection> {
        self.each().try_for_each(|(name, filter)| filter.filter_taken(node, taken).map_err(|rejection| (name, rejection)))
    }

    /// The same of a node that is known to do if its pods take less, without saying why not.
    pub fn still_fits(&self, node: &NodeInfo, taken: Taken<'_>) -> bool {
        self.by_taken.iter().flatten().all(|at| self.asking(*at).1.fits_taken(node, taken))
    }

    /// Whether the pod can run on the node as it is.
    ///
    /// # Errors
    /// The first plugin that rejects it.
    pub fn ask(&self, node: &NodeInfo) -> Result<(), PluginRejection> {
        self.each().try_for_each(|(name, filter)| filter.filter(node).map_err(|rejection| (name, rejection)))
    }

    /// What each plugin has against the node.
    pub fn ask_all(&self, node: &NodeInfo) -> Vec<PluginRejection> {
        self.each().filter_map(|(name, filter)| Some((name, filter.filter(node).err()?))).collect()
    }

    /// Each filter, which is asked then.
    fn each(&self) -> impl Iterator<Item = (&'static str, &(dyn NodeFilter + 'a))> {
        (0..self.filters.len()).map(move |at| self.asking(at))
    }

    fn asking(&self, at: usize) -> (&'static str, &(dyn NodeFilter + 'a)) {
        let (asked, (name, filter)) = (&self.asked[at], &self.filters[at]);
        asked.set(asked.get() + 1);
        (*name, &**filter)
    }

    /// How often each filter was asked since this was last told.
    pub fn take_asked(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.filters.iter().zip(&self.asked).map(|((name, _), asked)| (*name, asked.take()))
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

    /// The other pods nominated to the node that are as important.
    pub fn nominated(&self, node: &NodeInfo) -> Vec<Arc<PlacedPod>> {
        if self.nominated_at.as_ref().is_some_and(|places| places.get(node.at) == Some(&false)) {
            return Vec::new();
        }
        let counts = |other: &&Arc<PlacedPod>| other.priority >= self.pod.priority() && other.key() != self.pod.key();
        self.cluster.nominations().on(&node.name).filter(counts).cloned().collect()
    }

    fn ask_beside_nominated(&mut self, node: &NodeInfo) -> Result<(), PluginRejection> {
        let nominated = self.nominated(node);
        if nominated.is_empty() {
            return Ok(());
        }
        if self.are_by_taken() && !nominated.iter().any(|other| node.pods.contains_key(other.key())) {
            let mut requested = node.requested.clone();
            nominated.iter().for_each(|other| requested.add(&other.demand.requests));
            return self.ask_taken(node, Taken { requested: &requested, pods: node.pods.len() + nominated.len() });
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

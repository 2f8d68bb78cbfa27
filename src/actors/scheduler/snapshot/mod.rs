//! The scheduler's view of the cluster. Only what changed since the last decision is copied.
//!
//! Beside the nodes with their pods it has what makes affinity and spreading cheap: pods by namespace, affinity of placed pods by
//! terms ([`affinity_index`]), and counts of pods that decisions asked for before ([`pod_counts`]). All of it follows each pod that comes or goes.

pub mod affinity_index;
pub mod nominations;
pub mod pod_counts;
pub mod topology;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use troupe_api::meta::ObjectKey;

use self::{
    affinity_index::AffinityIndex,
    nominations::Nominations,
    pod_counts::{NodeCounts, PodCounts},
    topology::Topology,
};
use super::{
    node_info::NodeInfo,
    placed_pod::PlacedPod,
    pod_info::PodInfo,
    terms::{Labels, PodQuery},
};

/// Nodes with their pods; pods that were bound but are not yet seen bound count as there ("assumed").
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order nodes became known: decisions go round this list.
    nodes: Vec<Arc<NodeInfo>>,
    index: HashMap<Arc<str>, usize>,
    /// Each pod that is counted somewhere, with its node.
    placed: BTreeMap<ObjectKey, (Arc<str>, Arc<PlacedPod>)>,
    /// How many of these each namespace has.
    by_namespace: HashMap<Arc<str>, usize>,
    /// Pods of nodes that are not known (yet).
    waiting: HashMap<ObjectKey, (Arc<str>, Arc<PlacedPod>)>,
    affinity_index: AffinityIndex,
    pod_counts: PodCounts,
    nominations: Nominations,
    /// How many nodes have an image.
    images: HashMap<Arc<str>, usize>,
    /// How many placed pods use a claim.
    claims: HashMap<ObjectKey, usize>,
    labels: KnownLabels,
    has_slim_nodes: bool,
}

impl Snapshot {
    /// One that keeps of each node no more than plugins ask about: whole ones are several times as large.
    pub fn of_slim_nodes() -> Self {
        Snapshot { has_slim_nodes: true, ..Snapshot::default() }
    }

    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(*self.index.get(name)?)
    }

    /// Placed pods with affinity to others.
    pub fn affinity_index(&self) -> &AffinityIndex {
        &self.affinity_index
    }

    pub fn nominations(&self) -> &Nominations {
        &self.nominations
    }

    pub fn nominations_mut(&mut self) -> &mut Nominations {
        &mut self.nominations
    }

    /// How many nodes have an image of this name.
    pub fn nodes_with_image(&self, name: &str) -> usize {
        self.images.get(name).copied().unwrap_or(0)
    }

    /// How many placed pods use a claim.
    pub fn users_of_claim(&self, namespace: &str, claim: &str) -> usize {
        if self.claims.is_empty() { 0 } else { self.claims.get(&ObjectKey::new(namespace, claim)).copied().unwrap_or(0) }
    }

    /// How many pods are placed.
    pub fn pods(&self) -> usize {
        self.placed.len()
    }

    /// How many of them are of a namespace.
    pub fn pods_in(&self, namespace: &str) -> usize {
        self.by_namespace.get(namespace).copied().unwrap_or(0)
    }

    fn count_in_namespace(&mut self, namespace: &Arc<str>, came: bool) {
        let count = self.by_namespace.entry(namespace.clone()).or_default();
        *count = if came { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.by_namespace.remove(namespace);
        }
    }

    fn count_claims(&mut self, pod: &PlacedPod, came: bool) {
        for claim in pod.claims.iter() {
            let key = ObjectKey::new(pod.namespace(), claim.as_str());
            let count = self.claims.entry(key.clone()).or_default();
            *count = if came { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.claims.remove(&key);
            }
        }
    }

    /// The domains of a label.
    pub fn topology(&self, key: &str) -> Arc<Topology> {
        self.pod_counts.topology(key).unwrap_or_else(|| Arc::new(Topology::of(key, &self.nodes)))
    }

    /// How many such pods each node has.
    pub fn counts(&self, wanted: &PodQuery) -> Arc<NodeCounts> {
        self.pod_counts.counts(wanted).unwrap_or_else(|| Arc::new(self.count(wanted)))
    }

    /// Makes the counts ready that a decision on this pod asks for, and keeps them up to date from now on. Decisions are the same
    /// without.
    pub fn prepare(&mut self, pod: &PodInfo) {
        let hard = pod.spread.hard.iter().chain(&pod.spread.soft);
        let keys = hard.map(|constraint| &constraint.topology_key).chain(pod.terms.keys());
        for key in keys {
            self.pod_counts.keep_topology(key, &self.nodes);
        }
        for wanted in pod.pod_queries() {
            if !self.pod_counts.use_counts(&wanted) {
                let counts = self.count(&wanted);
                self.pod_counts.keep_counts(wanted, counts);
            }
        }
    }

    fn count(&self, wanted: &PodQuery) -> NodeCounts {
        let mut counts = vec![0; self.nodes.len()];
        let mut count = |node: &Arc<str>, pod: &PlacedPod| {
            if pod.is_counted_by(wanted)
                && let Some(at) = self.index.get(node)
            {
                counts[*at] += 1;
            }
        };
        let Some(first) = wanted.sets.first() else { return counts };
        if first.namespace_selector.is_everything() {
            self.placed.values().for_each(|(node, pod)| count(node, pod));
            return counts;
        }
        for namespace in &first.namespaces {
            let range = self.placed.range(ObjectKey::new(namespace.clone(), "")..);
            range.take_while(|(key, _)| key.namespace == *namespace).for_each(|(_, (node, pod))| count(node, pod));
        }
        counts
    }

    /// Takes in a new or changed node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        if let Some(at) = self.index.get(&name).copied() {
            let known = Arc::make_mut(&mut self.nodes[at]);
            let (before, images) = (known.node.clone(), known.images.clone());
            known.set_node(node);
            if self.has_slim_nodes {
                known.slim();
            }
            let now = known.images.clone();
            if now != images {
                self.count_images(&images, false);
                self.count_images(&now, true);
            }
            if self.nodes[at].node.metadata.labels != before.metadata.labels {
                self.pod_counts.set_node(at, &self.nodes[at]);
            }
            return;
        }
        let at = self.nodes.len();
        let mut info = NodeInfo::new(node, at);
        if self.has_slim_nodes {
            info.slim();
        }
        self.count_images(&info.images, true);
        self.pod_counts.set_node(at, &info);
        self.index.insert(name.clone(), at);
        self.nodes.push(Arc::new(info));
        let here: Vec<ObjectKey> = self.waiting.iter().filter(|(_, (wanted, _))| *wanted == name).map(|(key, _)| key.clone()).collect();
        for key in here {
            if let Some((_, pod)) = self.waiting.remove(&key) {
                self.place(at, pod);
            }
        }
    }

    fn count_images(&mut self, images: &HashMap<Arc<str>, i64>, came: bool) {
        for name in images.keys() {
            let count = self.images.entry(name.clone()).or_default();
            *count = if came { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.images.remove(name);
            }
        }
    }

    /// Forgets a node; its pods wait in case it comes back.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        let at = *self.index.get(name)?;
        let pods: Vec<Arc<PlacedPod>> = self.nodes[at].pods.values().cloned().collect();
        for pod in pods {
            self.unplace(pod.key());
            self.waiting.insert(pod.key().clone(), (name.into(), pod));
        }
        let last = self.nodes.len() - 1;
        for pod in self.nodes[last].pods.values().filter(|_| last != at) {
            self.affinity_index.remove(pod, last);
            self.affinity_index.add(pod, at);
        }
        self.index.remove(name);
        let info = self.nodes.swap_remove(at);
        self.pod_counts.swap_remove_node(at);
        if let Some(moved) = self.nodes.get_mut(at) {
            Arc::make_mut(moved).at = at;
            self.index.insert(moved.name.clone(), at);
        }
        self.count_images(&info.images, false);
        Some(info.node.clone())
    }

    /// Counts a pod on its node, replacing what was counted for it before, which is returned.
    pub fn set_pod(&mut self, node: &str, pod: &Pod) -> Option<Arc<PlacedPod>> {
        self.set_placed(node, PlacedPod::of(pod))
    }

    /// The same for a pod that was looked at already.
    pub fn set_placed(&mut self, node: &str, mut pod: PlacedPod) -> Option<Arc<PlacedPod>> {
        if let Some((place, known)) = self.placed.get(pod.key())
            && (&**place, &**known) == (node, &pod)
        {
            return Some(known.clone());
        }
        pod.labels = self.labels.shared(pod.labels);
        let pod = Arc::new(pod);
        let before = self.remove_pod(pod.key());
        match self.index.get(node) {
            Some(at) => self.place(*at, pod),
            None => {
                self.waiting.insert(pod.key().clone(), (node.into(), pod));
            }
        }
        before
    }

    fn place(&mut self, at: usize, pod: Arc<PlacedPod>) {
        self.pod_counts.count(&pod, at, true);
        self.count_claims(&pod, true);
        self.count_in_namespace(&pod.key().namespace, true);
        if self.affinity_index.add(&pod, at) {
            pod.terms.keys().for_each(|key| self.pod_counts.keep_topology(key, &self.nodes));
        }
        let node = &mut self.nodes[at];
        self.placed.insert(pod.key().clone(), (node.name.clone(), pod.clone()));
        Arc::make_mut(node).add_pod(pod);
    }

    fn unplace(&mut self, key: &ObjectKey) -> Option<Arc<PlacedPod>> {
        let (node, pod) = self.placed.remove(key)?;
        self.count_in_namespace(&key.namespace, false);
        let at = *self.index.get(&node)?;
        self.pod_counts.count(&pod, at, false);
        self.count_claims(&pod, false);
        self.affinity_index.remove(&pod, at);
        Arc::make_mut(&mut self.nodes[at]).remove_pod(key);
        Some(pod)
    }

    /// Stops counting a pod, and returns what it counted for.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> Option<Arc<PlacedPod>> {
        let waiting = self.waiting.remove(key).map(|(_, pod)| pod);
        self.unplace(key).or(waiting)
    }

    /// The known node that the pod is counted on.
    pub fn node_of(&self, key: &ObjectKey) -> Option<&Arc<str>> {
        self.placed.get(key).map(|(node, _)| node)
    }

    /// The pod as it is counted.
    pub fn pod(&self, key: &ObjectKey) -> Option<&Arc<PlacedPod>> {
        self.placed.get(key).map(|(_, pod)| pod)
    }
}

/// Labels that many pods have are kept once.
#[derive(Debug, Default)]
struct KnownLabels {
    known: HashSet<Arc<Labels>>,
    /// When there are so many, those that nobody has any more are dropped.
    sweep_at: usize,
}

impl KnownLabels {
    const FEW: usize = 1024;

    fn shared(&mut self, labels: Arc<Labels>) -> Arc<Labels> {
        if let Some(known) = self.known.get(&labels) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(Self::FEW) {
            self.known.retain(|labels| Arc::strong_count(labels) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        self.known.insert(labels.clone());
        labels
    }
}

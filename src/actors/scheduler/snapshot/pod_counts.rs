//! Pods counted by node: those that decisions asked for before are kept up to date, pod by pod.

use std::{collections::BTreeMap, sync::Arc};

use super::topology::Topology;
use crate::scheduler::{node_info::NodeInfo, placed_pod::PlacedPod, terms::PodQuery};

/// PodCounts and topologies that are kept: each pod that comes or goes is compared with every tally.
const KEPT: usize = 128;

/// Pods by the place of their node.
pub type NodeCounts = Vec<u32>;

#[derive(Debug)]
struct Kept<T> {
    of: T,
    used: u64,
}

/// What decisions asked for lately.
#[derive(Debug, Default)]
pub struct PodCounts {
    counts: Vec<(PodQuery, Kept<Arc<NodeCounts>>)>,
    topologies: BTreeMap<Arc<str>, Kept<Arc<Topology>>>,
    clock: u64,
}

impl PodCounts {
    pub fn counts(&self, wanted: &PodQuery) -> Option<Arc<NodeCounts>> {
        self.counts.iter().find(|(known, _)| known == wanted).map(|(_, kept)| kept.of.clone())
    }

    pub fn topology(&self, key: &str) -> Option<Arc<Topology>> {
        self.topologies.get(key).map(|kept| kept.of.clone())
    }

    /// Notes that a tally is asked for; `true` if it is kept already.
    pub fn use_counts(&mut self, wanted: &PodQuery) -> bool {
        self.clock += 1;
        let clock = self.clock;
        let known = self.counts.iter_mut().find(|(known, _)| known == wanted);
        known.map(|(_, kept)| kept.used = clock).is_some()
    }

    pub fn keep_counts(&mut self, wanted: PodQuery, counts: NodeCounts) {
        if self.counts.len() >= KEPT
            && let Some(oldest) = (0..self.counts.len()).min_by_key(|at| self.counts[*at].1.used)
        {
            self.counts.swap_remove(oldest);
        }
        self.counts.push((wanted, Kept { of: Arc::new(counts), used: self.clock }));
    }

    /// Keeps the topology of a label.
    pub fn keep_topology(&mut self, key: &Arc<str>, nodes: &[Arc<NodeInfo>]) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(kept) = self.topologies.get_mut(key) {
            kept.used = clock;
            return;
        }
        if self.topologies.len() >= KEPT
            && let Some(oldest) = self.topologies.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone())
        {
            self.topologies.remove(&oldest);
        }
        self.topologies.insert(key.clone(), Kept { of: Arc::new(Topology::of(key, nodes)), used: clock });
    }

    /// A pod came to the node at this place, or left it.
    pub fn count(&mut self, pod: &PlacedPod, at: usize, came: bool) {
        for (wanted, kept) in &mut self.counts {
            if pod.is_counted_by(wanted) {
                let count = &mut Arc::make_mut(&mut kept.of)[at];
                *count = if came { *count + 1 } else { *count - 1 };
            }
        }
    }

    /// The node at this place came or changed. A new one comes last, without pods.
    pub fn set_node(&mut self, at: usize, node: &NodeInfo) {
        for (_, kept) in &mut self.counts {
            if kept.of.len() == at {
                Arc::make_mut(&mut kept.of).push(0);
            }
        }
        for (key, kept) in &mut self.topologies {
            Arc::make_mut(&mut kept.of).set(at, node.label(key));
        }
    }

    /// The node at this place is gone; the last one takes it, with its pods.
    pub fn swap_remove_node(&mut self, at: usize) {
        for (_, kept) in &mut self.counts {
            Arc::make_mut(&mut kept.of).swap_remove(at);
        }
        self.topologies.values_mut().for_each(|kept| Arc::make_mut(&mut kept.of).swap_remove(at));
    }
}

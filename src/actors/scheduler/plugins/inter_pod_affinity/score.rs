//! Preferred affinity.

use std::{collections::BTreeMap, sync::Arc};

use crate::scheduler::{
    framework::{MAX_SCORE, NodeScorer},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::{Snapshot, topology::Topology},
};

/// Weights by domain of each label.
pub struct AffinityScorer {
    by_key: BTreeMap<Arc<str>, (Arc<Topology>, Vec<i64>)>,
}

impl AffinityScorer {
    /// `None` if no pod likes or dislikes another one here.
    pub fn new(pod: &PodInfo, cluster: &Snapshot, hard_weight: i32) -> Option<Self> {
        let mut scorer = AffinityScorer { by_key: BTreeMap::new() };
        let apart = pod.terms.preferred_anti.iter().map(|(weight, term)| (-i64::from(*weight), term));
        let together = pod.terms.preferred.iter().map(|(weight, term)| (i64::from(*weight), term));
        for (weight, term) in together.chain(apart) {
            let counts = cluster.counts(&term.wanted());
            let places = counts.iter().enumerate().filter(|(_, pods)| **pods > 0).map(|(at, pods)| (at, i64::from(*pods)));
            scorer.add(&term.topology_key, weight, places, cluster);
        }
        for (terms, places) in cluster.affinity_index().iter() {
            let hard = terms.required.iter().map(|term| (i64::from(hard_weight), term));
            let together = terms.preferred.iter().map(|(weight, term)| (i64::from(*weight), term));
            let apart = terms.preferred_anti.iter().map(|(weight, term)| (-i64::from(*weight), term));
            for (weight, term) in hard.chain(together).chain(apart).filter(|(weight, term)| *weight != 0 && pod.is_selected_by(term)) {
                scorer.add(&term.topology_key, weight, places.iter().map(|(at, pods)| (*at, i64::from(*pods))), cluster);
            }
        }
        (!scorer.by_key.is_empty()).then_some(scorer)
    }

    fn add(&mut self, key: &Arc<str>, weight: i64, places: impl Iterator<Item = (usize, i64)>, cluster: &Snapshot) {
        let mut places = places.peekable();
        if places.peek().is_none() {
            return;
        }
        let (topology, weights) = self.by_key.entry(key.clone()).or_insert_with(|| {
            let topology = cluster.topology(key);
            let weights = vec![0; topology.domains()];
            (topology, weights)
        });
        for (at, pods) in places {
            if let Some(domain) = topology.domain(at) {
                weights[domain] += weight * pods;
            }
        }
    }
}

impl NodeScorer for AffinityScorer {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.by_key.values().filter_map(|(topology, weights)| Some(weights[topology.domain(node.at)?])).sum()
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        let (least, most) = (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        let range = most - least;
        for score in scores {
            let share = if range > 0 { (*score - least) as f64 / range as f64 } else { 0.0 };
            *score = (MAX_SCORE as f64 * share) as i64;
        }
    }
}

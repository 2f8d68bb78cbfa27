//! Pods with affinity to others, by what they want: pods of one template share it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::scheduler::{placed_pod::PlacedPod, terms::Terms};

/// Pods by the place of their node; only nodes that have some.
pub type PodsByNode = BTreeMap<usize, u32>;

/// Terms of pods that have a node, and where those pods are.
#[derive(Debug, Default)]
pub struct AffinityIndex {
    by_terms: HashMap<Arc<Terms>, PodsByNode>,
}

impl AffinityIndex {
    pub fn iter(&self) -> impl Iterator<Item = (&Terms, &PodsByNode)> {
        self.by_terms.iter().map(|(terms, places)| (&**terms, places))
    }

    /// A pod came to the node at this place; `true` if its terms are new.
    pub fn add(&mut self, pod: &PlacedPod, at: usize) -> bool {
        if pod.terms.is_empty() {
            return false;
        }
        let places = self.by_terms.entry(pod.terms.clone()).or_default();
        let is_new = places.is_empty();
        *places.entry(at).or_default() += 1;
        is_new
    }

    /// A pod left the node at this place.
    pub fn remove(&mut self, pod: &PlacedPod, at: usize) {
        let Some(places) = self.by_terms.get_mut(&pod.terms) else { return };
        if let Some(count) = places.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                places.remove(&at);
            }
        }
        if places.is_empty() {
            self.by_terms.remove(&pod.terms);
        }
    }
}

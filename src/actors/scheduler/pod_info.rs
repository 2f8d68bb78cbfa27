//! What is computed once of a pod that wants a node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::ObjectKey;

use super::{
    demand::Demand,
    object_lookup::ObjectLookup,
    placed_pod::{PlacedPod, nominated_node},
    spread::{Spread, SpreadDefaults},
    terms::{Labels, PodQuery, Term, Terms},
};

/// A pod that wants a node, with what plugins need computed once.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    /// As it will count where it is placed.
    pub placed: Arc<PlacedPod>,
    /// Its terms, with namespaces by name.
    pub terms: Arc<Terms>,
    /// Labels of its namespace.
    pub namespace_labels: Arc<Labels>,
    pub spread: Spread,
}

impl PodInfo {
    /// A pod of a profile with upstream's defaults.
    pub fn new(pod: Arc<Pod>, around: &dyn ObjectLookup) -> Self {
        PodInfo::with_defaults(pod, around, &SpreadDefaults::System)
    }

    /// A pod of a profile with these spread constraints for pods that have none.
    pub fn with_defaults(pod: Arc<Pod>, around: &dyn ObjectLookup, defaults: &SpreadDefaults) -> Self {
        let placed = Arc::new(PlacedPod::of(&pod));
        let resolved = placed.terms.resolved(&|selector| around.namespaces_matching(selector));
        PodInfo {
            terms: resolved.map_or_else(|| placed.terms.clone(), Arc::new),
            namespace_labels: around.namespace_labels(placed.namespace()),
            spread: Spread::of(&pod, around, defaults),
            placed,
            pod,
        }
    }

    pub fn key(&self) -> &ObjectKey {
        self.placed.key()
    }

    pub fn demand(&self) -> &Demand {
        &self.placed.demand
    }

    /// All pods that plugins count for it.
    pub fn pod_queries(&self) -> Vec<PodQuery> {
        let constraints = self.spread.hard.iter().chain(&self.spread.soft);
        let mut wanted: Vec<PodQuery> = constraints.filter_map(|constraint| constraint.wanted(self.placed.namespace())).collect();
        wanted.dedup();
        wanted.extend(self.terms.wanted());
        wanted
    }

    pub fn priority(&self) -> i32 {
        self.placed.priority
    }

    /// Whether another pod's term is about this one.
    pub fn is_selected_by(&self, term: &Term) -> bool {
        term.pods.contains(self.placed.namespace(), &self.namespace_labels, &self.placed.labels)
    }

    /// The node that was made free for it.
    pub fn nominated_node(&self) -> Option<&str> {
        nominated_node(&self.pod)
    }
}

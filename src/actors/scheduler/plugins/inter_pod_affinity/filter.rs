//! Required affinity.

use std::{collections::BTreeMap, sync::Arc};

use crate::scheduler::{
    framework::{DependsOn, NodeFilter, Rejection},
    node_info::NodeInfo,
    placed_pod::PlacedPod,
    pod_info::PodInfo,
    snapshot::{Snapshot, pod_counts::NodeCounts, topology::Topology},
    terms::PodQuery,
};

/// Pods by domain of one label.
struct ByDomain {
    topology: Arc<Topology>,
    counts: Vec<i64>,
}

impl ByDomain {
    fn new(key: &Arc<str>, cluster: &Snapshot) -> Self {
        let topology = cluster.topology(key);
        ByDomain { counts: vec![0; topology.domains()], topology }
    }

    fn counted(key: &Arc<str>, pods: &NodeCounts, cluster: &Snapshot) -> Self {
        let mut by_domain = ByDomain::new(key, cluster);
        for (at, pods) in pods.iter().enumerate().filter(|(_, pods)| **pods > 0) {
            by_domain.add(at, i64::from(*pods));
        }
        by_domain
    }

    fn add(&mut self, at: usize, pods: i64) {
        if let Some(domain) = self.topology.domain(at) {
            self.counts[domain] += pods;
        }
    }

    /// `None` for nodes without the label.
    fn pods(&self, node: &NodeInfo) -> Option<i64> {
        self.topology.domain(node.at).map(|domain| self.counts[domain])
    }

    fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}

/// See the module.
pub struct AffinityFilter<'a> {
    pod: &'a PodInfo,
    cluster: &'a Snapshot,
    /// Pods that belong to all required terms, by the label of each term.
    together: Option<(PodQuery, Vec<ByDomain>)>,
    /// The pod belongs to all of its own terms.
    is_its_own: bool,
    /// Pods that each term keeps apart.
    apart: Vec<(PodQuery, ByDomain)>,
    /// Pods that want this one apart, by the label of their terms.
    unwanted_by: BTreeMap<Arc<str>, ByDomain>,
}

impl<'a> AffinityFilter<'a> {
    pub fn new(pod: &'a PodInfo, cluster: &'a Snapshot) -> Self {
        let together = pod.terms.together().map(|wanted| {
            let counts = cluster.counts(&wanted);
            let by_domain = pod.terms.required.iter().map(|term| ByDomain::counted(&term.topology_key, &counts, cluster));
            (wanted, by_domain.collect())
        });
        let apart = pod.terms.required_anti.iter().map(|term| {
            let wanted = term.wanted();
            let by_domain = ByDomain::counted(&term.topology_key, &cluster.counts(&wanted), cluster);
            (wanted, by_domain)
        });
        let is_its_own = together.as_ref().is_some_and(|(wanted, _): &(PodQuery, Vec<ByDomain>)| pod.placed.is_counted_by(wanted));
        let mut filter = AffinityFilter { pod, cluster, is_its_own, apart: apart.collect(), together, unwanted_by: BTreeMap::new() };
        for (terms, places) in cluster.affinity_index().iter() {
            for term in terms.required_anti.iter().filter(|term| pod.is_selected_by(term)) {
                let by_domain = filter.unwanted_by(&term.topology_key);
                places.iter().for_each(|(at, pods)| by_domain.add(*at, i64::from(*pods)));
            }
        }
        filter
    }

    fn unwanted_by(&mut self, key: &Arc<str>) -> &mut ByDomain {
        let cluster = self.cluster;
        self.unwanted_by.entry(key.clone()).or_insert_with(|| ByDomain::new(key, cluster))
    }

    fn count(&mut self, other: &PlacedPod, node: &NodeInfo, pods: i64) {
        if let Some((wanted, by_domain)) = &mut self.together
            && other.is_counted_by(wanted)
        {
            by_domain.iter_mut().for_each(|by_domain| by_domain.add(node.at, pods));
        }
        for (wanted, by_domain) in &mut self.apart {
            if other.is_counted_by(wanted) {
                by_domain.add(node.at, pods);
            }
        }
        let pod = self.pod;
        for term in &other.terms.required_anti {
            if pod.is_selected_by(term) {
                self.unwanted_by(&term.topology_key).add(node.at, pods);
            }
        }
    }

    fn is_near_enough(&self, node: &NodeInfo) -> bool {
        let Some((_, by_domain)) = &self.together else { return true };
        let Some(pods) = by_domain.iter().map(|by_domain| by_domain.pods(node)).collect::<Option<Vec<i64>>>() else { return false };
        // The first of a group of pods that want to be together goes anywhere.
        pods.iter().all(|pods| *pods > 0) || (self.is_its_own && by_domain.iter().all(ByDomain::is_empty))
    }

    fn is_far_enough(&self, node: &NodeInfo) -> bool {
        self.apart.iter().all(|(_, by_domain)| by_domain.pods(node).is_none_or(|pods| pods <= 0))
    }

    fn is_welcome(&self, node: &NodeInfo) -> bool {
        self.unwanted_by.values().all(|by_domain| by_domain.pods(node).is_none_or(|pods| pods <= 0))
    }
}

impl NodeFilter for AffinityFilter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.is_near_enough(node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if !self.is_far_enough(node) {
            return Err(Rejection::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if !self.is_welcome(node) {
            return Err(Rejection::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    /// On nothing as long as nobody wants anybody near or apart.
    fn depends_on(&self) -> DependsOn {
        let is_free = self.together.is_none() && self.apart.is_empty() && self.unwanted_by.is_empty();
        if is_free && !self.cluster.nominations().keep_apart() { DependsOn::Node } else { DependsOn::Pods }
    }

    fn add_pod(&mut self, pod: &PlacedPod, node: &NodeInfo) {
        self.count(pod, node, 1);
    }

    fn remove_pod(&mut self, pod: &PlacedPod, node: &NodeInfo) {
        self.count(pod, node, -1);
    }
}

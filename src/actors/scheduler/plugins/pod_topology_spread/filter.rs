//! Hard constraints.

use std::{collections::BTreeMap, sync::Arc};

use crate::scheduler::{
    framework::{NodeFilter, Rejection},
    node_info::NodeInfo,
    placed_pod::PlacedPod,
    pod_info::PodInfo,
    snapshot::{Snapshot, topology::Topology},
    spread::Constraint,
};

/// Pods of one constraint by domain.
struct Counted<'a> {
    constraint: &'a Constraint,
    topology: Arc<Topology>,
    /// `None` for domains whose nodes do not count.
    pods: Vec<Option<i64>>,
    /// How many domains have so many pods.
    domains: BTreeMap<i64, usize>,
    /// There are fewer domains that count than `minDomains`.
    too_few: bool,
    /// 1 if the pod itself is one of those that are spread.
    itself: i64,
}

impl Counted<'_> {
    /// The smallest number of pods in a domain that counts, or 0 where there are too few of them.
    fn least(&self) -> i64 {
        if self.too_few { 0 } else { self.domains.first_key_value().map_or(0, |(pods, _)| *pods) }
    }

    fn count_domains(&mut self) {
        for pods in self.pods.iter().flatten() {
            *self.domains.entry(*pods).or_default() += 1;
        }
        self.too_few = self.pods.iter().flatten().count() < self.constraint.min_domains;
    }

    fn change(&mut self, domain: usize, by: i64) {
        let Some(pods) = &mut self.pods[domain] else { return };
        if let Some(domains) = self.domains.get_mut(pods) {
            *domains -= 1;
            if *domains == 0 {
                self.domains.remove(pods);
            }
        }
        *pods += by;
        *self.domains.entry(*pods).or_default() += 1;
    }
}

/// See the module.
pub struct SpreadFilter<'a> {
    pod: &'a PodInfo,
    counted: Vec<Counted<'a>>,
}

impl<'a> SpreadFilter<'a> {
    pub fn new(pod: &'a PodInfo, cluster: &'a Snapshot) -> Self {
        let mut filter = SpreadFilter { pod, counted: pod.spread.hard.iter().map(|constraint| count_nothing(constraint, pod, cluster)).collect() };
        let pods: Vec<_> = pod.spread.hard.iter().map(|one| one.wanted(pod.placed.namespace()).map(|wanted| cluster.counts(&wanted))).collect();
        for node in cluster.nodes() {
            if !filter.has_all_labels(node) {
                continue;
            }
            for (counted, pods) in filter.counted.iter_mut().zip(&pods) {
                if let Some(domain) = counted.topology.domain(node.at)
                    && counted.constraint.counts(&pod.pod, &node.node)
                {
                    *counted.pods[domain].get_or_insert(0) += pods.as_ref().map_or(0, |pods| i64::from(pods[node.at]));
                }
            }
        }
        filter.counted.iter_mut().for_each(Counted::count_domains);
        filter
    }

    /// Only nodes that have the labels of all constraints count.
    fn has_all_labels(&self, node: &NodeInfo) -> bool {
        self.counted.iter().all(|counted| counted.topology.domain(node.at).is_some())
    }

    fn count(&mut self, other: &PlacedPod, node: &NodeInfo, pods: i64) {
        if other.is_terminating || other.namespace() != self.pod.placed.namespace() || !self.has_all_labels(node) {
            return;
        }
        for counted in &mut self.counted {
            let constraint = counted.constraint;
            let is_counted = !constraint.selector.is_everything() && constraint.selects(&other.labels);
            if !is_counted || !constraint.counts(&self.pod.pod, &node.node) {
                continue;
            }
            if let Some(domain) = counted.topology.domain(node.at) {
                counted.change(domain, pods);
            }
        }
    }
}

fn count_nothing<'a>(constraint: &'a Constraint, pod: &PodInfo, cluster: &Snapshot) -> Counted<'a> {
    let topology = cluster.topology(&constraint.topology_key);
    let itself = i64::from(constraint.selects(&pod.placed.labels));
    Counted { constraint, pods: vec![None; topology.domains()], topology, domains: BTreeMap::new(), too_few: false, itself }
}

impl NodeFilter for SpreadFilter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for counted in &self.counted {
            let Some(domain) = counted.topology.domain(node.at) else {
                return Err(Rejection::unresolvable("node(s) didn't match pod topology spread constraints (missing required label)"));
            };
            let pods = counted.pods[domain].unwrap_or(0);
            if pods + counted.itself - counted.least() > counted.constraint.max_skew {
                return Err(Rejection::resolvable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &PlacedPod, node: &NodeInfo) {
        self.count(pod, node, 1);
    }

    fn remove_pod(&mut self, pod: &PlacedPod, node: &NodeInfo) {
        self.count(pod, node, -1);
    }
}

//! Soft constraints.

use std::sync::Arc;

use crate::scheduler::{
    framework::{MAX_SCORE, NodeScorer},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::{Snapshot, pod_counts::NodeCounts, topology::Topology},
    spread::{Constraint, HOSTNAME},
};

/// Pods of one constraint.
struct Counted<'a> {
    constraint: &'a Constraint,
    topology: Arc<Topology>,
    by_node: Option<Arc<NodeCounts>>,
    /// Pods by domain; `None` for domains without feasible nodes. Unused for hosts.
    by_domain: Vec<Option<i64>>,
    /// Constraints with more domains weigh more.
    weight: f64,
}

impl Counted<'_> {
    fn is_by_host(&self) -> bool {
        &*self.constraint.topology_key == HOSTNAME
    }

    fn on_node(&self, at: usize) -> i64 {
        self.by_node.as_ref().map_or(0, |counts| i64::from(counts[at]))
    }
}

/// See the module.
pub struct SpreadScorer<'a> {
    counted: Vec<Counted<'a>>,
    /// Nodes that lack a label score 0: so for constraints of the pod, not for the cluster's.
    needs_all_labels: bool,
}

impl<'a> SpreadScorer<'a> {
    pub fn new(pod: &'a PodInfo, cluster: &'a Snapshot, feasible: &[&NodeInfo]) -> Self {
        let counted = pod.spread.soft.iter().map(|constraint| {
            let topology = cluster.topology(&constraint.topology_key);
            let by_node = constraint.wanted(pod.placed.namespace()).map(|wanted| cluster.counts(&wanted));
            Counted { constraint, by_domain: vec![None; topology.domains()], topology, by_node, weight: 0.0 }
        });
        let mut scorer = SpreadScorer { counted: counted.collect(), needs_all_labels: !pod.spread.is_default };
        let sizes = scorer.find_domains(feasible);
        for (counted, size) in scorer.counted.iter_mut().zip(sizes) {
            counted.weight = ((size + 2) as f64).ln();
        }
        for node in cluster.nodes() {
            scorer.count(pod, node);
        }
        scorer
    }

    fn is_ignored(&self, node: &NodeInfo) -> bool {
        self.needs_all_labels && self.counted.iter().any(|counted| counted.topology.domain(node.at).is_none())
    }

    /// Notes the domains of feasible nodes, and returns how many there are by constraint. Nodes without the label are one, too.
    fn find_domains(&mut self, feasible: &[&NodeInfo]) -> Vec<usize> {
        let mut unlabelled = vec![false; self.counted.len()];
        let considered: Vec<&&NodeInfo> = feasible.iter().filter(|node| !self.is_ignored(node)).collect();
        for node in &considered {
            for (counted, unlabelled) in self.counted.iter_mut().zip(&mut unlabelled) {
                match counted.topology.domain(node.at) {
                    Some(domain) => counted.by_domain[domain] = Some(0),
                    None => *unlabelled = true,
                }
            }
        }
        let size = |(counted, unlabelled): (&Counted<'_>, bool)| match counted.is_by_host() {
            true => considered.len(),
            false => counted.by_domain.iter().flatten().count() + usize::from(unlabelled),
        };
        self.counted.iter().zip(unlabelled).map(size).collect()
    }

    fn count(&mut self, pod: &PodInfo, node: &NodeInfo) {
        if self.is_ignored(node) {
            return;
        }
        for counted in self.counted.iter_mut().filter(|counted| !counted.is_by_host()) {
            let Some(domain) = counted.topology.domain(node.at).filter(|domain| counted.by_domain[*domain].is_some()) else { continue };
            let pods = counted.on_node(node.at);
            if pods > 0 && counted.constraint.counts(&pod.pod, &node.node) {
                *counted.by_domain[domain].get_or_insert(0) += pods;
            }
        }
    }
}

impl NodeScorer for SpreadScorer<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.is_ignored(node) {
            return 0;
        }
        let mut score = 0.0;
        for counted in &self.counted {
            let Some(domain) = counted.topology.domain(node.at) else { continue };
            let pods = if counted.is_by_host() { counted.on_node(node.at) } else { counted.by_domain[domain].unwrap_or(0) };
            score += pods as f64 * counted.weight + (counted.constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let considered = || nodes.iter().zip(scores.iter()).filter(|(node, _)| !self.is_ignored(node)).map(|(_, score)| *score);
        let (least, most) = (considered().min().unwrap_or(i64::MAX), considered().max().unwrap_or(0));
        for (node, score) in nodes.iter().zip(scores) {
            *score = match most {
                _ if self.is_ignored(node) => 0,
                0 => MAX_SCORE,
                most => MAX_SCORE * (most + least - *score) / most,
            };
        }
    }
}

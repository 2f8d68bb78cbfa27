//! Filters and scores, written down from the documentation with no thought of speed: every question goes through all pods and nodes.

mod affinity;
mod spread;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Node, NodeAffinity, NodeSelectorTerm, Pod, Taint, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::random_cluster::TestCluster;
use crate::scheduler::resources::{nonzero_pod_requests, pod_requests};

type Labels = BTreeMap<String, String>;

/// A plugin's no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub unresolvable: bool,
}

/// Arguments of plugins, as the documentation tells what they do.
pub struct Options {
    /// Full nodes are liked, and cpu counts so many times what memory does.
    pub most_allocated: bool,
    pub cpu_weight: i64,
    /// What required affinity of others to the pod counts.
    pub hard_weight: i64,
    /// Whoever prefers no pods near is not asked about those that others prefer.
    pub ignores_others: bool,
    /// Constraints of pods that have none, instead of upstream's.
    pub constraints: Option<Vec<TopologySpreadConstraint>>,
    /// What all nodes must match and what is preferred, beside the pod's own.
    pub added: Option<NodeAffinity>,
    /// Hundredths that are in use of what is used most, by node.
    pub busy: BTreeMap<String, i64>,
}

impl Default for Options {
    fn default() -> Self {
        Options { most_allocated: false, cpu_weight: 1, hard_weight: 1, ignores_others: false, constraints: None, added: None, busy: BTreeMap::new() }
    }
}

/// A pod in a cluster.
pub struct Reference<'a> {
    pub cluster: &'a TestCluster,
    pub pod: &'a Pod,
    pub options: &'a Options,
}

fn labels_of(pod: &Pod) -> Labels {
    pod.metadata.labels.clone().unwrap_or_default()
}

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|wanted| {
            let (value, values) = (labels.get(&wanted.key), wanted.values.clone().unwrap_or_default());
            match wanted.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

fn is_empty(selector: Option<&LabelSelector>) -> bool {
    selector.is_some_and(|selector| {
        selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty) && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    })
}

fn matches_node(term: &NodeSelectorTerm, node: &Node) -> bool {
    term.match_expressions.iter().flatten().all(|wanted| {
        let (value, values) = (label(node, &wanted.key), wanted.values.clone().unwrap_or_default());
        match wanted.operator.as_str() {
            "In" => value.is_some_and(|value| values.iter().any(|known| known == value)),
            _ => value.is_none_or(|value| values.iter().all(|known| known != value)),
        }
    })
}

impl Reference<'_> {
    fn on(&self, node: &str) -> Vec<&Pod> {
        self.cluster.pods.values().map(|pod| &**pod).filter(|pod| node_of(pod) == node).collect()
    }

    fn placed(&self) -> Vec<(&Pod, &Node)> {
        self.cluster.pods.values().filter_map(|pod| Some((&**pod, &**self.cluster.nodes.get(node_of(pod))?))).collect()
    }

    /// Who is against a node.
    pub fn verdicts(&self, node: &str) -> BTreeMap<&'static str, Verdict> {
        let node = &self.cluster.nodes[node];
        let (yes, no) = (Some(Verdict { unresolvable: false }), Some(Verdict { unresolvable: true }));
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        let all = [
            ("NodeUnschedulable", if cordoned && !self.tolerates_cordon() { no } else { None }),
            ("TaintToleration", if self.tolerates(node, &["NoSchedule", "NoExecute"]) { None } else { no }),
            ("NodeAffinity", if self.node_matches(node) && self.is_added(node) { None } else { no }),
            ("NodePorts", if self.ports_are_free(node) { None } else { yes }),
            ("NodeResourcesFit", self.fits(node)),
            ("PodTopologySpread", self.spread(node)),
            ("InterPodAffinity", self.affinity(node)),
            ("NodeDeclaredFeatures", if self.is_declared(node) { None } else { no }),
        ];
        all.into_iter().filter_map(|(name, verdict)| Some((name, verdict?))).collect()
    }

    fn taints(node: &Node) -> Vec<Taint> {
        node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
    }

    /// All tolerations of these tests are for key `t`, whatever its value.
    fn tolerates_effect(&self, effect: &str) -> bool {
        let tolerations = self.pod.spec.as_ref().and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
        tolerations.iter().any(|toleration| toleration.effect.as_deref().is_none_or(|known| known.is_empty() || known == effect))
    }

    fn tolerates_cordon(&self) -> bool {
        false
    }

    fn tolerates(&self, node: &Node, effects: &[&str]) -> bool {
        Self::taints(node).iter().filter(|taint| effects.contains(&taint.effect.as_str())).all(|taint| self.tolerates_effect(&taint.effect))
    }

    fn node_matches(&self, node: &Node) -> bool {
        let affinity = self.pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches_node(term, node)))
    }

    fn is_added(&self, node: &Node) -> bool {
        let required = self.options.added.as_ref().and_then(|added| added.required_during_scheduling_ignored_during_execution.as_ref());
        required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches_node(term, node)))
    }

    /// Pods of these tests need one feature, if any.
    fn is_declared(&self, node: &Node) -> bool {
        let mut containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
        let declared = node.status.as_ref().and_then(|status| status.declared_features.clone()).unwrap_or_default();
        containers.all(|container| container.restart_policy_rules.is_none())
            || declared.iter().any(|name| name == "RestartAllContainersOnContainerExits")
    }

    fn ports(pod: &Pod) -> BTreeSet<i32> {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        containers.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| port.host_port).collect()
    }

    fn ports_are_free(&self, node: &Node) -> bool {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        self.on(name).iter().all(|other| Self::ports(other).is_disjoint(&Self::ports(self.pod)))
    }

    fn allocatable(node: &Node, name: &str) -> i64 {
        let text = &node.status.as_ref().expect("a status").allocatable.as_ref().expect("some")[name].0;
        match name {
            "cpu" => text.parse::<i64>().expect("whole") * 1000,
            "memory" => text.strip_suffix("Gi").expect("in Gi").parse::<i64>().expect("whole") << 30,
            _ => text.parse().expect("whole"),
        }
    }

    fn fits(&self, node: &Node) -> Option<Verdict> {
        let there = self.on(node.metadata.name.as_deref().unwrap_or_default());
        let wants = pod_requests(self.pod);
        let mut verdict = (there.len() as i64 >= Self::allocatable(node, "pods")).then_some(Verdict { unresolvable: false });
        let used = |of: &dyn Fn(&Pod) -> i64| there.iter().map(|pod| of(pod)).sum::<i64>();
        for (name, wanted, used) in [
            ("cpu", wants.cpu, used(&|pod| pod_requests(pod).cpu)),
            ("memory", wants.memory, used(&|pod| pod_requests(pod).memory)),
            ("example.com/gpu", wants.scalar("example.com/gpu"), used(&|pod| pod_requests(pod).scalar("example.com/gpu"))),
        ] {
            let all = Self::allocatable(node, name);
            if wanted > 0 && used + wanted > all {
                let unresolvable = wanted > all || verdict.is_some_and(|verdict| verdict.unresolvable);
                verdict = Some(Verdict { unresolvable });
            }
        }
        verdict
    }

    /// Weighted sums of all plugins' scores.
    pub fn scores(&self, names: &[&str]) -> Vec<i64> {
        let nodes: Vec<&Node> = names.iter().map(|name| &*self.cluster.nodes[*name]).collect();
        let taints = by_largest(nodes.iter().map(|node| self.soft_taints(node)).collect(), true);
        let preferred = by_largest(nodes.iter().map(|node| self.node_preference(node)).collect(), false);
        let (spread, pods, calm) = (self.spread_scores(&nodes), self.affinity_scores(&nodes), self.calm(names));
        let all = nodes.iter().enumerate().map(|(at, node)| {
            3 * taints[at]
                + 2 * preferred[at]
                + 2 * spread[at]
                + 2 * pods[at]
                + self.emptiness(node)
                + self.balance(node)
                + self.images(node)
                + calm[at]
        });
        all.collect()
    }

    fn soft_taints(&self, node: &Node) -> i64 {
        let soft = Self::taints(node).into_iter().filter(|taint| taint.effect == "PreferNoSchedule");
        soft.filter(|taint| !self.tolerates_effect(&taint.effect)).count() as i64
    }

    fn node_preference(&self, node: &Node) -> i64 {
        let affinity = self.pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
        let both = affinity.into_iter().chain(&self.options.added);
        let preferred = both.flat_map(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten());
        preferred.filter(|term| matches_node(&term.preference, node)).map(|term| i64::from(term.weight)).sum()
    }

    fn emptiness(&self, node: &Node) -> i64 {
        let there = self.on(node.metadata.name.as_deref().unwrap_or_default());
        let wants = nonzero_pod_requests(self.pod);
        let cpu = wants.cpu + there.iter().map(|pod| nonzero_pod_requests(pod).cpu).sum::<i64>();
        let memory = wants.memory + there.iter().map(|pod| nonzero_pod_requests(pod).memory).sum::<i64>();
        let (most, weight) = (self.options.most_allocated, self.options.cpu_weight);
        let score = |used: i64, all: i64| match most {
            true => used.min(all) * 100 / all,
            false if used > all => 0,
            false => (all - used) * 100 / all,
        };
        (weight * score(cpu, Self::allocatable(node, "cpu")) + score(memory, Self::allocatable(node, "memory"))) / (weight + 1)
    }

    /// What is free of the nodes; of those that nothing is known of, as much as of the others on average.
    fn calm(&self, names: &[&str]) -> Vec<i64> {
        let calm = |name: &&str| self.options.busy.get(*name).map(|busy| 100 - busy);
        let known: Vec<i64> = names.iter().filter_map(calm).collect();
        let average = if known.is_empty() { 0 } else { known.iter().sum::<i64>() / known.len() as i64 };
        names.iter().map(|name| calm(name).unwrap_or(average)).collect()
    }

    fn balance(&self, node: &Node) -> i64 {
        let there = self.on(node.metadata.name.as_deref().unwrap_or_default());
        let wants = pod_requests(self.pod);
        if wants.cpu == 0 && wants.memory == 0 {
            return 0;
        }
        let evenness = |more: bool| {
            let (cpu, memory) = if more { (wants.cpu, wants.memory) } else { (0, 0) };
            let cpu = cpu + there.iter().map(|pod| pod_requests(pod).cpu).sum::<i64>();
            let memory = memory + there.iter().map(|pod| pod_requests(pod).memory).sum::<i64>();
            let share = |used: i64, all: i64| (used as f64 / all as f64).min(1.0);
            let apart = (share(cpu, Self::allocatable(node, "cpu")) - share(memory, Self::allocatable(node, "memory"))).abs();
            ((1.0 - apart / 2.0) * 100.0) as i64
        };
        50 + (50 + evenness(true) - evenness(false)) / 2
    }

    fn images(&self, node: &Node) -> i64 {
        const MB: i64 = 1 << 20;
        let image = self.pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
        let image = if image.contains(':') { image } else { format!("{image}:latest") };
        let size = |node: &Node| {
            let images = node.status.as_ref().and_then(|status| status.images.clone()).unwrap_or_default();
            images.iter().find(|known| known.names.iter().flatten().any(|name| *name == image)).and_then(|image| image.size_bytes)
        };
        let having = self.cluster.nodes.values().filter(|node| size(node).is_some()).count();
        let sum = size(node).map_or(0, |size| (size as f64 * (having as f64 / self.cluster.nodes.len() as f64)) as i64);
        100 * (sum.clamp(23 * MB, 1000 * MB) - 23 * MB) / (977 * MB)
    }
}

fn by_largest(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let largest = scores.iter().copied().max().unwrap_or(0);
    let scaled = scores.into_iter().map(|score| if largest == 0 { 0 } else { score * 100 / largest });
    scaled.map(|score| if reverse { 100 - score } else { score }).collect()
}

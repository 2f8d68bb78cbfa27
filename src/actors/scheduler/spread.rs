//! Topology spread constraints, ready to be compared with nodes and pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, TopologySpreadConstraint};
use troupe_api::meta::{LabelSelector, Requirement};

use super::{
    node_matching::required_matches,
    object_lookup::ObjectLookup,
    terms::{Labels, PodQuery, PodSet},
    tolerations::hard_taints_are_tolerated,
};

/// The label that tells nodes apart.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// One constraint (`v1.TopologySpreadConstraint`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    pub max_skew: i64,
    pub topology_key: Arc<str>,
    pub selector: LabelSelector,
    pub min_domains: usize,
    /// Nodes that the pod's selector and affinity exclude do not count.
    pub honours_affinity: bool,
    /// Nodes with taints that the pod does not tolerate do not count.
    pub honours_taints: bool,
}

impl Constraint {
    /// Fields have the API's defaults; `matchLabelKeys` are merged into the selector (KEP-3243).
    fn of(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = LabelSelector::from(constraint.label_selector.as_ref());
        let keys = constraint.match_label_keys.iter().flatten();
        for (key, value) in keys.filter_map(|key| Some((key, labels.get(key)?))) {
            selector.requirements.push(Requirement::In(key.clone(), vec![value.clone()].into()));
        }
        Constraint {
            max_skew: constraint.max_skew.into(),
            topology_key: constraint.topology_key.as_str().into(),
            selector,
            min_domains: constraint.min_domains.and_then(|least| usize::try_from(least).ok()).unwrap_or(1),
            honours_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honours_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    fn by_default(topology_key: &str, max_skew: i64, selector: &LabelSelector) -> Self {
        Constraint {
            max_skew,
            topology_key: topology_key.into(),
            selector: selector.clone(),
            min_domains: 1,
            honours_affinity: true,
            honours_taints: false,
        }
    }

    /// Whether the node's pods count.
    pub fn counts(&self, pod: &Pod, node: &Node) -> bool {
        let Some(spec) = &pod.spec else { return true };
        (!self.honours_affinity || required_matches(spec, node)) && (!self.honours_taints || hard_taints_are_tolerated(spec, node))
    }

    /// The pods that are counted; none if the selector has no requirements, as upstream.
    pub fn wanted(&self, namespace: &str) -> Option<PodQuery> {
        let all = self.selector.is_everything();
        (!all).then(|| PodQuery { sets: vec![PodSet::within(namespace, self.selector.clone())], terminating: false })
    }

    /// Whether a pod with these labels is one of those that are spread.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.selector.matches(labels)
    }
}

/// Constraints of pods that have none of their own (`PodTopologySpreadArgs`).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SpreadDefaults {
    /// Upstream's: over hosts with skew 3, over zones with skew 5, where it can be had.
    #[default]
    System,
    /// The cluster's own; what they count is what selects the pod and its like.
    List(Vec<TopologySpreadConstraint>),
}

impl SpreadDefaults {
    /// The constraints of a pod whose like this selects.
    fn of(&self, pod: &Pod, selector: &LabelSelector) -> Spread {
        let is_default = *self == SpreadDefaults::System;
        if selector.is_everything() {
            return Spread { is_default, ..Spread::default() };
        }
        match self {
            SpreadDefaults::System => {
                let soft = vec![Constraint::by_default(HOSTNAME, 3, selector), Constraint::by_default(ZONE, 5, selector)];
                Spread { hard: Vec::new(), soft, is_default }
            }
            SpreadDefaults::List(constraints) => {
                let mut spread = Spread::listed(constraints, pod);
                spread.hard.iter_mut().chain(&mut spread.soft).for_each(|constraint| constraint.selector = selector.clone());
                spread
            }
        }
    }
}

/// The constraints of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// `DoNotSchedule`.
    pub hard: Vec<Constraint>,
    /// `ScheduleAnyway`.
    pub soft: Vec<Constraint>,
    /// They are upstream's defaults: nodes that lack a label count for the other constraints.
    pub is_default: bool,
}

impl Spread {
    /// Those of the pod, or the defaults where it has none.
    pub fn of(pod: &Pod, around: &dyn ObjectLookup, defaults: &SpreadDefaults) -> Self {
        let own = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default();
        if own.is_empty() { defaults.of(pod, &around.default_selector(pod)) } else { Spread::listed(own, pod) }
    }

    fn listed(constraints: &[TopologySpreadConstraint], pod: &Pod) -> Self {
        let none = Labels::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
        let of = |action: &str| {
            let those = constraints.iter().filter(|constraint| constraint.when_unsatisfiable == action);
            those.map(|constraint| Constraint::of(constraint, labels)).collect()
        };
        Spread { hard: of("DoNotSchedule"), soft: of("ScheduleAnyway"), is_default: false }
    }
}

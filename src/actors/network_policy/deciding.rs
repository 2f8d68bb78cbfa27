//! What decides about a pod: the policies that select it, tier by tier. Pure.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    cluster::{ClusterPolicyView, ClusterRule, Tier},
    model::{Direction, Labels, PodView, PolicyView, RuleView},
};

/// All that may decide about the pods of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Deciding {
    /// Those of the namespace; others do no harm.
    pub policies: Vec<Arc<PolicyView>>,
    pub cluster: Vec<Arc<ClusterPolicyView>>,
    /// The labels of the namespace; `None` where they are not known.
    pub namespace: Option<Arc<Labels>>,
}

/// What decides about a pod's connections of one direction, in the order in which it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tiers<'a> {
    pub admin: Vec<(&'a ClusterPolicyView, &'a ClusterRule)>,
    /// `None` where no network policy isolates the pod; then those of the baseline are asked.
    pub isolating: Option<Vec<(&'a PolicyView, &'a RuleView)>>,
    pub baseline: Vec<(&'a ClusterPolicyView, &'a ClusterRule)>,
}

impl Deciding {
    /// Whether it cannot be told which policies select pods of the namespace.
    pub fn is_uncertain(&self) -> bool {
        self.namespace.is_none() && !self.cluster.is_empty()
    }

    /// Whether any policy selects a pod.
    pub fn selects(&self, pod: &PodView) -> bool {
        self.is_uncertain() || self.policies.iter().any(|policy| policy.selects(pod)) || !self.cluster_policies(pod).is_empty()
    }

    /// The cluster network policies that select a pod, in their order.
    pub fn cluster_policies(&self, pod: &PodView) -> Vec<&ClusterPolicyView> {
        let Some(labels) = &self.namespace else { return Vec::new() };
        let mut chosen: Vec<_> = self.cluster.iter().map(Arc::as_ref).filter(|policy| policy.selects(pod, labels)).collect();
        chosen.sort_by_key(|policy| policy.order());
        chosen
    }

    /// The ids of the sets of peers that cluster network policies need for a pod.
    pub fn cluster_peers(&self, pod: &PodView) -> BTreeSet<Arc<str>> {
        self.cluster_policies(pod).into_iter().flat_map(|policy| policy.peer_sets().into_keys()).collect()
    }

    /// What decides about a pod's connections.
    pub fn tiers(&self, pod: &PodView, direction: Direction) -> Tiers<'_> {
        let isolating = self.policies.iter().filter(|policy| policy.selects(pod)).filter_map(|policy| Some((&**policy, policy.rules(direction)?)));
        let isolating: Vec<_> = isolating.collect();
        let rules = isolating.iter().flat_map(|(policy, rules)| rules.iter().map(move |rule| (*policy, rule))).collect();
        let mut tiers = Tiers { isolating: (!isolating.is_empty()).then_some(rules), ..Tiers::default() };
        for policy in self.cluster_policies(pod) {
            let tier = if policy.tier == Tier::Admin { &mut tiers.admin } else { &mut tiers.baseline };
            tier.extend(policy.rules(direction).iter().map(|rule| (policy, rule)));
        }
        tiers
    }
}

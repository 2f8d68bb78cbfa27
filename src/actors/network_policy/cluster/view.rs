//! Cluster network policies as the planners see them. Pure.

use std::{collections::BTreeMap, sync::Arc};

use troupe_api::meta::LabelSelector;

use crate::network_policy::model::{Direction, Labels, PeerSet, PodView, RuleView};

/// The namespace of the slices that tell these policies' peers.
pub const HOME: &str = "kube-system";

/// Before or behind the network policies of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    Admin,
    Baseline,
}

impl Tier {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Admin => "Admin",
            Tier::Baseline => "Baseline",
        }
    }
}

/// What becomes of a connection that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Accept,
    Deny,
    /// The next tier decides.
    Pass,
}

impl Action {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Accept => "Accept",
            Action::Deny => "Deny",
            Action::Pass => "Pass",
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRule {
    pub action: Action,
    pub rule: RuleView,
    /// Its place among those of its direction, from 1 on.
    pub number: usize,
}

/// The pods that a policy is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub namespaces: LabelSelector,
    pub pods: LabelSelector,
}

/// What matters of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPolicyView {
    pub name: Arc<str>,
    pub tier: Tier,
    /// Lower ones come first.
    pub priority: i32,
    pub subject: Subject,
    pub ingress: Vec<ClusterRule>,
    pub egress: Vec<ClusterRule>,
}

impl ClusterPolicyView {
    /// Whether it selects a pod whose namespace has these labels.
    pub fn selects(&self, pod: &PodView, namespace: &Labels) -> bool {
        pod.is_policed() && self.subject.namespaces.matches(namespace) && self.subject.pods.matches(&pod.labels)
    }

    /// Its rules of a direction, in their order.
    pub fn rules(&self, direction: Direction) -> &[ClusterRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// The sets of addresses that its rules refer to, by their ids.
    pub fn peer_sets(&self) -> BTreeMap<Arc<str>, PeerSet> {
        let home: Arc<str> = HOME.into();
        let both = [Direction::Ingress, Direction::Egress];
        let rules = both.into_iter().flat_map(|direction| self.rules(direction).iter().map(move |rule| (direction, rule)));
        rules.flat_map(|(direction, rule)| rule.rule.peer_sets(direction, &home)).map(|set| (set.id(), set)).collect()
    }

    /// By what order policies are asked. Upstream leaves open who comes first among equals; here it is the first by name.
    pub fn order(&self) -> (Tier, i32, &str) {
        (self.tier, self.priority, &*self.name)
    }
}

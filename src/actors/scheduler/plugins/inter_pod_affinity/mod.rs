//! InterPodAffinity: near some pods, far from others. Both what the pod wants and what those that are placed want.

mod filter;
mod hints;
mod score;

use self::{filter::AffinityFilter, score::AffinityScorer};
use crate::scheduler::{
    framework::{ClusterChange, Event, NodeScorer, Plugin, Point, PreFilter},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// See the module.
pub struct InterPodAffinity {
    /// What required affinity of placed pods to this one counts in scores; 0 to 100 (`hardPodAffinityWeight`).
    pub hard_weight: i32,
    /// Preferred terms of placed pods count only for pods that have such themselves (`ignorePreferredTermsOfExistingPods`).
    pub ignores_others: bool,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        InterPodAffinity { hard_weight: 1, ignores_others: false }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, cluster: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Ask(Box::new(AffinityFilter::new(pod, cluster)))
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        let prefers = !pod.terms.preferred.is_empty() || !pod.terms.preferred_anti.is_empty();
        if self.ignores_others && !prefers {
            return None;
        }
        AffinityScorer::new(pod, cluster, self.hard_weight).map(|scorer| Box::new(scorer) as Box<dyn NodeScorer>)
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::NodeRemoved, Event::PodAdded, Event::PodUpdated, Event::PodRemoved, Event::WaitingPodUpdated]
    }

    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        hints::may_help(pod, change)
    }
}

//! PodTopologySpread: pods that are alike stand in all zones, or whatever else nodes are told apart by, in like numbers (KEP-895).

mod filter;
mod hints;
mod score;

use self::{filter::SpreadFilter, score::SpreadScorer};
use crate::scheduler::{
    framework::{ClusterChange, Event, NodeScorer, Plugin, Point, PreFilter},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// See the module. The constraints, and the defaults, come with the pod ([`crate::scheduler::spread::Spread`]).
pub struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, cluster: &'a Snapshot) -> PreFilter<'a> {
        if pod.spread.hard.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Ask(Box::new(SpreadFilter::new(pod, cluster)))
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, cluster: &'a Snapshot, feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        if pod.spread.soft.is_empty() {
            return None;
        }
        Some(Box::new(SpreadScorer::new(pod, cluster, feasible)))
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::NodeRemoved, Event::PodAdded, Event::PodUpdated, Event::PodRemoved, Event::WaitingPodUpdated]
    }

    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        hints::may_help(pod, change)
    }
}

//! TaintToleration: nodes with taints that the pod does not tolerate are out, or less liked (`PreferNoSchedule`).

use k8s_openapi::api::core::v1::{Node, PodSpec};

use crate::scheduler::{
    framework::{ClusterChange, Event, NodeScorer, Plugin, Point, PreFilter, Rejection, normalize_to_largest},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
    tolerations::{gains_toleration, hard_taints_are_tolerated, taints, tolerated},
};

/// See the module.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        let Some(spec) = &pod.pod.spec else { return PreFilter::Skip };
        PreFilter::by_node_alone(move |node| {
            if !node.has_taints || hard_taints_are_tolerated(spec, &node.node) {
                Ok(())
            } else {
                Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
            }
        })
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        let spec = pod.pod.spec.as_ref()?;
        Some(Box::new(SoftTaints { spec }))
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::WaitingPodUpdated]
    }

    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        if let ClusterChange::WaitingPodUpdated { old, new } = change {
            return gains_toleration(old, new);
        }
        let (old, new) = change.node();
        let Some(spec) = &pod.pod.spec else { return true };
        let tolerates = |node: &Node| hard_taints_are_tolerated(spec, node);
        !old.is_some_and(tolerates) && new.is_some_and(tolerates)
    }
}

/// NodeCounts taints that pods would rather avoid.
struct SoftTaints<'a> {
    spec: &'a PodSpec,
}

impl NodeScorer for SoftTaints<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let soft = taints(&node.node).iter().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(self.spec, taint));
        i64::try_from(soft.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_to_largest(scores, true);
    }
}

//! NodeUnschedulable: cordoned nodes take no pods but those that tolerate it.

use k8s_openapi::api::core::v1::{Pod, Taint};

use crate::scheduler::{
    framework::{ClusterChange, Event, Plugin, Point, PreFilter, Rejection},
    pod_info::PodInfo,
    snapshot::Snapshot,
    tolerations::{gains_toleration, is_cordoned, tolerated},
};

/// See the module.
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::by_node_alone(move |node| {
            if !node.is_cordoned {
                return Ok(());
            }
            if tolerates_cordons(&pod.pod) { Ok(()) } else { Err(Rejection::unresolvable("node(s) were unschedulable")) }
        })
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::WaitingPodUpdated]
    }

    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        if let ClusterChange::WaitingPodUpdated { old, new } = change {
            return gains_toleration(old, new) && tolerates_cordons(&pod.pod);
        }
        let (old, new) = change.node();
        old.is_none_or(is_cordoned) && !new.is_some_and(is_cordoned)
    }
}

fn tolerates_cordons(pod: &Pod) -> bool {
    let taint = Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
    pod.spec.as_ref().is_some_and(|spec| tolerated(spec, &taint))
}

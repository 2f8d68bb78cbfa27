//! NodeUnschedulable: cordoned nodes take no pods but those that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use crate::scheduler::{
    framework::{ClusterChange, Event, Plugin, Point, PreFilter, Rejection},
    pod_info::PodInfo,
    snapshot::Snapshot,
    tolerations::{is_cordoned, tolerated},
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
            let taint = Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
            let is_tolerated = pod.pod.spec.as_ref().is_some_and(|spec| tolerated(spec, &taint));
            if is_tolerated { Ok(()) } else { Err(Rejection::unresolvable("node(s) were unschedulable")) }
        })
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated]
    }

    fn may_help(&self, _pod: &PodInfo, change: &ClusterChange) -> bool {
        let (old, new) = change.node();
        old.is_none_or(is_cordoned) && !new.is_some_and(is_cordoned)
    }
}

//! NodeName: a pod that names its node goes nowhere else.

use crate::scheduler::{
    framework::{Event, Plugin, Point, PreFilter, Rejection},
    pod_info::PodInfo,
    snapshot::Snapshot,
};

/// See the module.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        let wanted = pod.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty());
        let Some(wanted) = wanted else { return PreFilter::Skip };
        PreFilter::by_node_alone(move |node| {
            if wanted == &*node.name { Ok(()) } else { Err(Rejection::unresolvable("node(s) didn't match the requested node name")) }
        })
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded]
    }
}

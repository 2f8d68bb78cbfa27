//! NodeUnschedulable: cordoned nodes take no pods but those that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerated;
use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    node_info::{NodeInfo, PodInfo},
};

/// See the module.
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let cordoned = node.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        if !cordoned {
            return Ok(());
        }
        let taint = Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
        if tolerated(pod, &taint) { Ok(()) } else { Err(Rejection::unresolvable("node(s) were unschedulable")) }
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::NodeAdded | ClusterChange::NodeUpdated | ClusterChange::PodUpdated)
    }
}

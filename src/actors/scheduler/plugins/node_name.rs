//! NodeName: a pod that names its node goes nowhere else.

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection},
    node_info::{NodeInfo, PodInfo},
};

/// See the module.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match pod.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
            Some(wanted) if !wanted.is_empty() && wanted != &*node.name => {
                Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
            }
            _ => Ok(()),
        }
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        change == ClusterChange::NodeAdded
    }
}

//! Which nodes a DaemonSet wants: by node selector, affinity and taints. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Node, NodeSpec, PodSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::projection::MetaProjection;

use super::template::daemon_tolerations;
use crate::{
    runtime::cache::Digest,
    scheduler::{
        node_matching::required_matches,
        tolerations::{drop_comparisons, tolerates},
    },
};

/// A node with nothing but what says whether a DaemonSet wants it: its name, labels and taints.
pub struct Place {
    pub node: Arc<Node>,
}

impl Digest<Node> for Place {
    fn of(_: &Arc<MetaProjection>, node: &Node) -> Self {
        let metadata = ObjectMeta { name: node.metadata.name.clone(), labels: node.metadata.labels.clone(), ..ObjectMeta::default() };
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone());
        Place { node: Arc::new(Node { metadata, spec: Some(NodeSpec { taints, ..NodeSpec::default() }), status: None }) }
    }
}

/// What a node is to a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// It gets a pod.
    Wanted,
    /// It gets no new pod, but one that runs there may stay.
    Kept,
    /// No pod belongs there.
    Unwanted,
}

/// The template's spec with the tolerations that every daemon pod has; judges nodes.
pub struct Judge {
    spec: PodSpec,
}

impl Judge {
    /// `compares` is whether tolerations compare numbers.
    pub fn new(set: &DaemonSet, compares: bool) -> Self {
        let mut spec = set.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
        if !compares {
            drop_comparisons(&mut spec);
        }
        daemon_tolerations(&mut spec);
        Judge { spec }
    }

    /// `NodeShouldRunDaemonPod`: taints that forbid scheduling keep new pods away, those that evict also end running ones.
    pub fn judge(&self, node: &Node) -> Eligibility {
        let pinned = self.spec.node_name.as_deref().filter(|name| !name.is_empty());
        if pinned.is_some_and(|name| Some(name) != node.metadata.name.as_deref()) || !required_matches(&self.spec, node) {
            return Eligibility::Unwanted;
        }
        if !self.suffers(node, "NoExecute") {
            return if self.suffers(node, "NoSchedule") { Eligibility::Kept } else { Eligibility::Wanted };
        }
        Eligibility::Unwanted
    }

    /// The node has a taint of this effect that the pods do not tolerate.
    fn suffers(&self, node: &Node, effect: &str) -> bool {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let tolerations = self.spec.tolerations.as_deref().unwrap_or_default();
        taints.iter().any(|taint| taint.effect == effect && !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    }
}

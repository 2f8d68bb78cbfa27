//! What is kept of each node: thousands are looked at every few seconds, and nothing is to be done about nearly all of them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use troupe_api::projection::MetaProjection;

use super::{
    condition,
    health::NodeSigns,
    taints::{Emptying, needs_a_turn, silenced, tainted},
    zones::{counted_zone, zone},
};
use crate::{controllers::nodes::is_ready, runtime::cache::Digest};

/// See the module.
#[derive(Debug)]
pub struct NodeDigest {
    pub meta: Arc<MetaProjection>,
    pub signs: NodeSigns,
    pub says_ready: bool,
    pub created: Option<Timestamp>,
    pub zone: Box<str>,
    /// See [`counted_zone`].
    pub counted_zone: Box<str>,
    /// See [`needs_a_turn`].
    pub needs_a_turn: bool,
    /// A taint of it evicts pods.
    pub evicts: bool,
    /// Its conditions say that it is silent.
    pub says_silent: bool,
    /// How it may be emptied for its taints to be what they should.
    fits: Vec<Emptying>,
}

impl Digest<Node> for NodeDigest {
    fn of(meta: &Arc<MetaProjection>, node: &Node) -> Self {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        // When it is done makes no difference to whether something is to be done.
        let at = Timestamp::UNIX_EPOCH;
        let fits = [Emptying::Allowed, Emptying::Waits, Emptying::Stopped].into_iter().filter(|emptying| tainted(node, *emptying, at).is_none());
        NodeDigest {
            meta: meta.clone(),
            signs: NodeSigns::of(condition(node, "Ready")),
            says_ready: is_ready(node),
            created: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
            zone: zone(node).into(),
            counted_zone: counted_zone(node).into(),
            needs_a_turn: needs_a_turn(node),
            evicts: taints.iter().any(|taint| taint.effect == "NoExecute"),
            says_silent: silenced(node, at).is_none(),
            fits: fits.collect(),
        }
    }
}

impl NodeDigest {
    /// Whether its taints are what they should be, if it may be emptied like this.
    pub fn fits(&self, emptying: Emptying) -> bool {
        self.fits.contains(&emptying)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::cache::digest_of;

    fn node(ready: &str, taints: Value) -> Node {
        let labels = json!({"topology.kubernetes.io/zone": "z"});
        let conditions = json!([{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]);
        let object = json!({"metadata": {"name": "a", "labels": labels}, "spec": {"taints": taints}, "status": {"conditions": conditions}});
        serde_json::from_value(object).expect("a node")
    }

    #[test]
    fn a_digest_says_whether_anything_is_to_be_done() {
        let unreachable = |effect: &str| json!({"key": "node.kubernetes.io/unreachable", "effect": effect});
        let nodes = [
            node("True", json!([])),
            node("True", json!([unreachable("NoSchedule")])),
            node("Unknown", json!([])),
            node("Unknown", json!([unreachable("NoSchedule")])),
            node("Unknown", json!([unreachable("NoSchedule"), unreachable("NoExecute")])),
        ];
        for node in &nodes {
            let digest = digest_of::<Node, NodeDigest>(node);
            for emptying in [Emptying::Allowed, Emptying::Waits, Emptying::Stopped] {
                assert_eq!(digest.fits(emptying), tainted(node, emptying, "2026-01-01T00:00:00Z".parse().expect("a time")).is_none(), "{node:?}");
            }
            assert_eq!((digest.needs_a_turn, digest.says_ready), (needs_a_turn(node), is_ready(node)));
            assert_eq!((&*digest.meta.name, &*digest.zone, &*digest.counted_zone), ("a", ":z", ":z"));
        }
        let digest = |at: usize| digest_of::<Node, NodeDigest>(&nodes[at]);
        assert!(digest(0).fits(Emptying::Waits) && !digest(0).says_silent && !digest(0).evicts);
        assert!(digest(3).fits(Emptying::Waits) && !digest(3).fits(Emptying::Allowed) && digest(3).needs_a_turn);
        assert!(digest(4).evicts && !digest(4).fits(Emptying::Stopped));
    }

    #[test]
    fn a_silent_node_says_so_once_all_its_conditions_do() {
        let mut silent = node("True", json!([]));
        assert!(!digest_of::<Node, NodeDigest>(&silent).says_silent);
        let conditions = silenced(&silent, Timestamp::UNIX_EPOCH);
        silent.status.as_mut().expect("a status").conditions = conditions;
        assert!(digest_of::<Node, NodeDigest>(&silent).says_silent);
    }
}

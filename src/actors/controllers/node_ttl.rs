//! Node TTL: tells kubelets on their nodes for how long they may go on with Secrets and ConfigMaps that they have read, the longer the larger
//! the cluster.

use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::{meta::ObjectKey, service::PatchType};

use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Holds the seconds.
const TTL: &str = "node.alpha.kubernetes.io/ttl";

/// What holds for clusters of some sizes.
struct Step {
    /// Smaller clusters go back to the step before.
    least: usize,
    /// Larger ones go on to the next step.
    most: usize,
    seconds: u32,
}

/// They overlap, so that a node more or less does not change all others again and again.
const STEPS: [Step; 5] = [
    Step { least: 0, most: 100, seconds: 0 },
    Step { least: 90, most: 500, seconds: 15 },
    Step { least: 450, most: 1000, seconds: 30 },
    Step { least: 900, most: 2000, seconds: 60 },
    Step { least: 1800, most: usize::MAX, seconds: 300 },
];

/// The step of a cluster of so many nodes that was at `step` before.
fn step_of(mut step: usize, nodes: usize) -> usize {
    while nodes > STEPS[step].most {
        step += 1;
    }
    while nodes < STEPS[step].least {
        step -= 1;
    }
    step
}

/// The patch that has a node say so many seconds; `None` if it does.
fn plan(node: &Node, seconds: u32) -> Option<Value> {
    let said = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(TTL));
    let says = said.and_then(|text| text.parse::<u32>().ok()) == Some(seconds);
    (!says).then(|| json!({"metadata": {"annotations": {TTL: seconds.to_string()}}}))
}

/// Files all nodes under "", to be counted.
const ALL: &str = "all";

/// See the module. A node learns of another step when it changes, which its kubelet has it do often.
pub struct NodeTtlController {
    nodes: Cache<Node>,
    step: Mutex<usize>,
}

impl NodeTtlController {
    pub fn new(caches: &Caches) -> Self {
        let nodes: Cache<Node> = caches.cache();
        nodes.add_meta_index(ALL, |_| vec!["".into()]);
        NodeTtlController { nodes, step: Mutex::new(0) }
    }

    /// The seconds that hold now.
    fn seconds(&self) -> u32 {
        let mut step = self.step.lock();
        *step = step_of(*step, self.nodes.index_count(ALL, ""));
        STEPS[*step].seconds
    }
}

impl Controller for NodeTtlController {
    const NAME: &'static str = "node-ttl";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Node>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(node) = self.nodes.get(key) else { return Ok(Outcome::Done) };
        let Some(patch) = plan(&node.object, self.seconds()) else { return Ok(Outcome::Done) };
        match cx.client().all::<Node>().patch(&key.name, "", PatchType::StrategicMerge, &patch).await {
            Ok(written) => cx.wrote(&self.nodes, &*written),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_clusters_have_nodes_keep_what_they_read_for_longer() {
        let seconds = |step: usize, nodes: usize| STEPS[step_of(step, nodes)].seconds;
        let grown: Vec<u32> = [1, 100, 101, 500, 501, 1001, 2001, 50_000].into_iter().map(|nodes| seconds(0, nodes)).collect();
        assert_eq!(grown, [0, 0, 15, 15, 30, 60, 300, 300]);
        // One that shrinks a little stays where it is.
        let shrunk: Vec<u32> = [1800, 1799, 900, 899, 450, 449, 90, 89].into_iter().map(|nodes| seconds(4, nodes)).collect();
        assert_eq!(shrunk, [300, 60, 60, 30, 30, 15, 15, 0]);
    }

    #[test]
    fn a_node_is_told_once() {
        let node = |annotations: Value| serde_json::from_value::<Node>(json!({"metadata": {"annotations": annotations}})).expect("a node");
        assert_eq!(plan(&node(json!(null)), 0), Some(json!({"metadata": {"annotations": {TTL: "0"}}})));
        assert_eq!(plan(&node(json!({TTL: "0"})), 0), None);
        assert!(plan(&node(json!({TTL: "0"})), 15).is_some() && plan(&node(json!({TTL: "x"})), 0).is_some());
    }
}

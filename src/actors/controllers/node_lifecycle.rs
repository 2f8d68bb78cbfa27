//! Node lifecycle: taints nodes by their conditions, marks silent nodes Unknown, and evicts pods that do not tolerate it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, Pod, Taint},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, PatchType},
};

use crate::{
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
    scheduler::plugins::tolerates,
};

/// A node that has not renewed its lease for so long is Unknown, unless told otherwise (upstream's `--node-monitor-grace-period`).
pub const GRACE: Duration = Duration::from_secs(50);
/// How often leases are looked at, at most.
const PERIOD: Duration = Duration::from_secs(5);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const BY_NODE: &str = "node-lifecycle/node";

/// See the module.
pub struct NodeLifecycleController {
    nodes: Cache<Node>,
    leases: Cache<Lease>,
    pods: Cache<Pod>,
    grace: Duration,
}

impl NodeLifecycleController {
    /// `grace` is how long a node may be silent.
    pub fn new(caches: &Caches, grace: Duration) -> Self {
        let pods: Cache<Pod> = caches.cache();
        pods.add_index(BY_NODE, |pod| pod.spec.iter().filter_map(|spec| spec.node_name.as_deref().map(Arc::from)).collect());
        NodeLifecycleController { nodes: caches.cache(), leases: caches.cache(), pods, grace }
    }
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// When the node was last heard of.
fn last_heard(node: &Node, lease: Option<&Lease>) -> Option<Timestamp> {
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0);
    let heartbeat = condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0);
    let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    renewed.max(heartbeat).or(created)
}

/// The conditions of a node that went silent; `None` when they say so already.
fn silenced(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let unknown = NodeCondition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: Some("NodeStatusUnknown".into()),
            message: Some("Kubelet stopped posting node status.".into()),
            last_transition_time: Some(Time(now)),
            ..NodeCondition::default()
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                let heartbeat = known.last_heartbeat_time.clone();
                *known = NodeCondition { last_heartbeat_time: heartbeat, ..unknown };
                changed = true;
            }
            None => {
                conditions.push(unknown);
                changed = true;
            }
        }
    }
    changed.then_some(conditions)
}

/// The taints that the node's conditions and `unschedulable` ask for, other taints kept. `None` when they are there.
fn tainted(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let is = |kind: &str, status: &str| condition(node, kind).is_some_and(|condition| condition.status == status);
    let not_ready = condition(node, "Ready").is_none() || is("Ready", "False");
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let wanted = [
        (NOT_READY, "NoSchedule", not_ready),
        (NOT_READY, "NoExecute", not_ready && condition(node, "Ready").is_some()),
        (UNREACHABLE, "NoSchedule", is("Ready", "Unknown")),
        (UNREACHABLE, "NoExecute", is("Ready", "Unknown")),
        ("node.kubernetes.io/memory-pressure", "NoSchedule", is("MemoryPressure", "True")),
        ("node.kubernetes.io/disk-pressure", "NoSchedule", is("DiskPressure", "True")),
        ("node.kubernetes.io/pid-pressure", "NoSchedule", is("PIDPressure", "True")),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", is("NetworkUnavailable", "True")),
        ("node.kubernetes.io/unschedulable", "NoSchedule", cordoned),
    ];
    let mut taints = current.clone();
    for (key, effect, on) in wanted {
        let at = taints.iter().position(|taint| taint.key == key && taint.effect == effect);
        match (on, at) {
            (true, None) => {
                // Eviction counts from when a NoExecute taint came.
                let time_added = Some(Time(now)).filter(|_| effect == "NoExecute" || key == "node.kubernetes.io/unschedulable");
                taints.push(Taint { key: key.into(), effect: effect.into(), time_added, value: None });
            }
            (false, Some(at)) => drop(taints.remove(at)),
            _ => {}
        }
    }
    (taints != current).then_some(taints)
}

/// When a pod must leave a node with these NoExecute taints: `None` never, `Some(0)` now.
fn leaves_in(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut earliest: Option<Duration> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let mut matching = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        let stay = match matching.peek() {
            None => Some(Duration::ZERO),
            Some(_) => matching.filter_map(|toleration| toleration.toleration_seconds).min().map(|seconds| {
                let since = taint.time_added.as_ref().map_or(now, |time| time.0);
                Duration::from_secs((seconds - now.duration_since(since).as_secs()).max(0).unsigned_abs())
            }),
        };
        earliest = match (earliest, stay) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    earliest
}

impl NodeLifecycleController {
    async fn mark(&self, node: &Node, name: &str, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let api = cx.client().all::<Node>();
        let lease = self.leases.get(&ObjectKey::new("kube-node-lease", name));
        let heard = last_heard(node, lease.as_ref().map(|cached| &*cached.object));
        let silent = heard.is_none_or(|heard| cx.now().duration_since(heard).as_secs() >= self.grace.as_secs().cast_signed());
        let mut current = node.clone();
        if silent && let Some(conditions) = silenced(node, cx.now()) {
            let patch = json!({"status": {"conditions": conditions}});
            let written = api.patch(name, "status", PatchType::StrategicMerge, &patch).await?;
            cx.events().normal(&ReconcileContext::reference(node), "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
            cx.wrote(&self.nodes, &*written);
            current = (*written).clone();
        }
        if let Some(taints) = tainted(&current, cx.now()) {
            // The resourceVersion keeps taints that somebody else sets at the same time.
            let patch = json!({"metadata": {"resourceVersion": current.metadata.resource_version}, "spec": {"taints": taints}});
            match api.patch(name, "", PatchType::Merge, &patch).await {
                Ok(written) => cx.wrote(&self.nodes, &*written),
                Err(status) if status.is_conflict() => return Err(status.into()),
                Err(status) => return Err(status.into()),
            }
        }
        Ok(())
    }

    async fn evict(&self, node: &Node, name: &str, cx: &ReconcileContext) -> Result<Option<Duration>, ReconcileError> {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let mut next: Option<Duration> = None;
        for pod in self.pods.by_index(BY_NODE, name) {
            if pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            match leaves_in(&pod, taints, cx.now()) {
                None => {}
                Some(Duration::ZERO) => self.delete(&pod, cx).await?,
                Some(wait) => next = Some(next.map_or(wait, |next| next.min(wait))),
            }
        }
        Ok(next)
    }

    async fn delete(&self, pod: &Pod, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let (namespace, name) = (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
        cx.events().normal(&ReconcileContext::reference(pod), "TaintManagerEviction", format!("Marking for deletion Pod {namespace}/{name}"));
        let options = DeleteOptions { precondition_uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
        match cx.client().namespaced::<Pod>(namespace).delete(&name, options).await {
            Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status.into()),
            _ => Ok(()),
        }
    }
}

impl Controller for NodeLifecycleController {
    const NAME: &'static str = "node-lifecycle";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Node>();
        watches.reads::<Lease>();
        watches.map::<Pod>(|change| {
            let moved = change.old.is_none();
            let node = change.new.as_ref().and_then(|pod| pod.spec.as_ref()?.node_name.clone());
            node.filter(|_| moved).map(ObjectKey::cluster).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(node) = self.nodes.get(key) else { return Ok(Outcome::Done) };
        self.mark(&node.object, &key.name, cx).await?;
        let next = self.evict(&node.object, &key.name, cx).await?;
        let period = PERIOD.min(self.grace / 5);
        Ok(Outcome::RequeueAfter(next.map_or(period, |next| next.min(period))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, unschedulable: bool) -> Node {
        let object = json!({"metadata": {"name": "a"}, "spec": {"unschedulable": unschedulable, "taints": [{"key": "own", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        serde_json::from_value(object).expect("a node")
    }

    fn taint_keys(node: &Node) -> Option<Vec<String>> {
        tainted(node, Timestamp::UNIX_EPOCH).map(|taints| taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect())
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        assert_eq!(taint_keys(&node("True", false)), None);
        let keys = taint_keys(&node("Unknown", true)).expect("changed");
        assert_eq!(
            keys,
            [
                "own:NoSchedule",
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute",
                "node.kubernetes.io/unschedulable:NoSchedule"
            ]
        );
        let mut recovered = node("True", false);
        recovered.spec.as_mut().expect("set").taints = tainted(&node("False", false), Timestamp::UNIX_EPOCH);
        assert_eq!(taint_keys(&recovered), Some(vec!["own:NoSchedule".into()]));
    }

    #[test]
    fn a_silent_node_becomes_unknown_once() {
        let silent = silenced(&node("True", false), Timestamp::UNIX_EPOCH).expect("changed");
        assert!(silent.iter().all(|condition| condition.status == "Unknown") && silent.len() == 4);
        let mut after = node("True", false);
        after.status.as_mut().expect("set").conditions = Some(silent);
        assert_eq!(silenced(&after, Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn a_pod_leaves_when_its_toleration_runs_out() {
        let pod = |tolerations| -> Pod { serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).expect("a pod") };
        let taints = tainted(&node("False", false), Timestamp::UNIX_EPOCH).expect("changed");
        let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(100);
        let limited = json!([{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        assert_eq!(leaves_in(&pod(json!([])), &taints, later), Some(Duration::ZERO));
        assert_eq!(leaves_in(&pod(limited), &taints, later), Some(Duration::from_secs(200)));
        assert_eq!(leaves_in(&pod(json!([{"operator": "Exists"}])), &taints, later), None);
    }
}

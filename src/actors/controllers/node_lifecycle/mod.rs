//! Node lifecycle: taints nodes by their conditions, marks silent nodes Unknown, and evicts pods that do not tolerate it.
//!
//! `health` tells who is silent, `zones` how many are and how fast nodes may be emptied then, `taints` what a node should
//! be marked with, `departures` which pods leave. A controller that starts knows of no silence yet, so whatever was away
//! before (nodes, the API server, the controller itself) has a whole grace period to come back.

mod departures;
mod health;
pub mod metrics;
mod taints;
mod zones;

use std::{
    collections::{HashMap, HashSet},
    sync::OnceLock,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition, Pod},
};
use parking_lot::Mutex;
use serde_json::json;
use troupe_api::{
    Status,
    meta::{Cause, ObjectKey},
    service::{DeleteOptions, PatchType},
};

use self::{
    departures::Leaving,
    health::{Health, Signs},
    taints::{Emptying, needs_a_turn, silenced, tainted},
    zones::{Census, Turns, counted_zone, zone},
};
use super::pods::{BY_NODE, index_by_node, is_ready};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    events::EventRecorder,
};

/// A node of which nothing new was seen for so long is Unknown, unless told otherwise (upstream's `--node-monitor-grace-period`).
pub const GRACE: Duration = Duration::from_secs(50);
/// The same for a node that never reported (`--node-startup-grace-period`).
const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// How often leases are looked at, at most.
const PERIOD: Duration = Duration::from_secs(5);
/// A count of all nodes serves for so long, unless the node in question is not what it was then.
const CENSUS: Duration = Duration::from_secs(1);

/// The source of events about evictions.
const EVICTIONS: &str = "taint-eviction-controller";

/// See the module.
pub struct NodeLifecycleController {
    nodes: Cache<Node>,
    leases: Cache<Lease>,
    pods: Cache<Pod>,
    grace: Duration,
    seen: Mutex<Seen>,
    /// Upstream's controller that evicts is another one, and events name it.
    evictions: OnceLock<EventRecorder>,
}

/// What this controller has seen since it started.
#[derive(Default)]
struct Seen {
    health: HashMap<String, Health>,
    census: Option<Counted>,
    all_lost: bool,
    turns: Turns,
    /// By node.
    leaving: HashMap<String, Leaving>,
}

/// A census, and which nodes were not well.
struct Counted {
    at: Instant,
    census: Census,
    unwell: HashSet<String>,
}

impl NodeLifecycleController {
    /// `grace` is how long a node may be silent.
    pub fn new(caches: &Caches, grace: Duration) -> Self {
        let (nodes, pods) = (index(caches.cache()), index_by_node(caches.cache()));
        NodeLifecycleController { nodes, leases: caches.cache(), pods, grace, seen: Mutex::default(), evictions: OnceLock::new() }
    }
}

/// Files each node under whether it says that it is ready and the zone in which it is counted: thousands are counted without being decoded.
const BY_READINESS: &str = "readiness and zone";
const READY: &str = "ready";

fn index(nodes: Cache<Node>) -> Cache<Node> {
    nodes.add_index(BY_READINESS, |node| {
        let readiness = if says_ready(node) { READY } else { "other" };
        vec![format!("{readiness} {}", counted_zone(node)).into()]
    });
    nodes
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn says_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

impl NodeLifecycleController {
    /// Looks for signs of life; whether there were none for too long.
    fn is_silent(&self, node: &Node, name: &str, cx: &ReconcileContext) -> bool {
        let lease = self.leases.get(&ObjectKey::new("kube-node-lease", name));
        let signs = Signs::of(node, lease.as_ref().map(|cached| &*cached.object));
        let created = node.metadata.creation_timestamp.as_ref().map_or_else(|| cx.now(), |time| time.0);
        let age = Duration::from_secs(cx.now().duration_since(created).as_secs().max(0).unsigned_abs());
        let now = cx.system().instant();
        let mut seen = self.seen.lock();
        let health = seen.health.entry(name.to_owned()).or_insert_with(|| Health::first(signs, age, now));
        health.see(signs, now);
        health.is_silent(self.grace, STARTUP_GRACE, now)
    }

    /// Counts all nodes, `node` as it is here.
    ///
    /// For this purpose half a grace period makes a node doubtful. Nodes that are cut off together fall silent one after the
    /// other, by the times of their last renewals: the first must not be emptied because the last is not missed yet.
    fn census(&self, seen: &mut Seen, node: &Node, now: Instant) -> Census {
        let health = &seen.health;
        let well = |name: &str, says_ready: bool| {
            says_ready && health.get(name).is_none_or(|health| !health.is_silent(self.grace / 2, STARTUP_GRACE / 2, now))
        };
        let own = node.metadata.name.as_deref().unwrap_or_default();
        let own_is_well = well(own, says_ready(node));
        if let Some(counted) = &seen.census
            && now.saturating_duration_since(counted.at) < CENSUS
            && own_is_well != counted.unwell.contains(own)
        {
            return counted.census.clone();
        }
        let (mut census, mut unwell) = (Census::default(), HashSet::new());
        let mut count = |name: &str, zone: &str, ready: bool| {
            census.count(zone, ready);
            if !ready {
                unwell.insert(name.to_owned());
            }
        };
        count(own, &counted_zone(node), own_is_well);
        for filed in self.nodes.index_values(BY_READINESS) {
            let Some((readiness, zone)) = filed.split_once(' ') else { continue };
            let others = self.nodes.index_keys_where(BY_READINESS, &filed, |other| *other == *filed);
            for other in others.iter().filter(|other| *other.name != *own) {
                count(&other.name, zone, well(&other.name, readiness == READY));
            }
        }
        census.zones().for_each(metrics::known);
        seen.census = Some(Counted { at: now, census: census.clone(), unwell });
        census
    }

    /// Whether `node` may be emptied now if it should be.
    fn emptying(&self, node: &Node, now: Instant) -> Emptying {
        let mut seen = self.seen.lock();
        let census = self.census(&mut seen, node, now);
        let all_lost = census.all_lost();
        let was_lost = std::mem::replace(&mut seen.all_lost, all_lost);
        if all_lost && !was_lost {
            tracing::warn!("no node is ready: evictions stop");
        }
        if was_lost && !all_lost {
            // Whoever is still silent was cut off along with all others, and may come back like them.
            tracing::info!("nodes are ready again: evictions are possible");
            seen.health.values_mut().for_each(|health| health.forgive(now));
        }
        match needs_a_turn(node) {
            _ if all_lost => Emptying::Stopped,
            true if seen.turns.take(&zone(node), &census, now) => Emptying::Allowed,
            _ => Emptying::Waits,
        }
    }

    /// Brings conditions and taints up to date.
    async fn mark(&self, node: &Node, name: &str, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let api = cx.client().all::<Node>();
        let silent = self.is_silent(node, name, cx);
        let mut current = node.clone();
        if silent && let Some(conditions) = silenced(node, cx.now()) {
            let patch = json!({"status": {"conditions": conditions}});
            let written = api.patch(name, "status", PatchType::StrategicMerge, &patch).await?;
            if says_ready(node) {
                cx.events().normal(&ReconcileContext::reference(node), "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
            }
            cx.wrote(&self.nodes, &*written);
            current = (*written).clone();
        }
        if silent {
            self.mark_pods(name, cx).await?;
        }
        let emptying = self.emptying(&current, cx.system().instant());
        if let Some(taints) = tainted(&current, emptying, cx.now()) {
            // The resourceVersion keeps taints that somebody else sets at the same time.
            let patch = json!({"metadata": {"resourceVersion": current.metadata.resource_version}, "spec": {"taints": taints}});
            match api.patch(name, "", PatchType::Merge, &patch).await {
                Ok(written) => {
                    cx.wrote(&self.nodes, &*written);
                    if emptying == Emptying::Allowed {
                        metrics::evicted(&zone(&current));
                    }
                }
                Err(status) => {
                    if emptying == Emptying::Allowed {
                        self.seen.lock().turns.give_back(&zone(&current));
                    }
                    return Err(status.into());
                }
            }
        }
        Ok(())
    }

    /// Nobody should be sent to the pods of a silent node. Its kubelet corrects that when it is back.
    async fn mark_pods(&self, name: &str, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        for pod in self.pods.by_index(BY_NODE, name) {
            if !is_ready(&pod) {
                continue;
            }
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": troupe_api::meta::time::format_time(cx.now())});
            patch_status(&pod, condition, cx).await?;
            cx.events().warning(&ReconcileContext::reference(&*pod), "NodeNotReady", "Node is not ready".to_owned());
        }
        Ok(())
    }

    async fn evict(&self, node: &Node, name: &str, cx: &ReconcileContext) -> Result<Option<Duration>, ReconcileError> {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let pods = self.pods.by_index(BY_NODE, name);
        let before = self.seen.lock().leaving.remove(name).unwrap_or_default();
        let plan = departures::plan(&pods, taints, &before, cx.system().instant());
        if !plan.leaving.is_empty() {
            self.seen.lock().leaving.insert(name.to_owned(), plan.leaving);
        }
        for pod in &plan.spared {
            self.tell(pod, "Cancelling deletion of", cx);
        }
        for pod in &plan.leave {
            self.delete(pod, cx).await?;
        }
        Ok(plan.next)
    }

    async fn delete(&self, pod: &Pod, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        self.tell(pod, "Marking for deletion", cx);
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": troupe_api::meta::time::format_time(cx.now()),
        });
        patch_status(pod, condition, cx).await?;
        let (namespace, name) = names(pod);
        let options = DeleteOptions { precondition_uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
        unless_gone(cx.client().namespaced::<Pod>(namespace).delete(name, options).await)
    }

    fn tell(&self, pod: &Pod, what: &str, cx: &ReconcileContext) {
        let (namespace, name) = names(pod);
        let events = self.evictions.get_or_init(|| EventRecorder::new(cx.system(), &cx.client().caused_by(Cause::default()), EVICTIONS));
        events.normal(&ReconcileContext::reference(pod), "TaintManagerEviction", format!("{what} Pod {namespace}/{name}"));
    }
}

fn names(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

/// Sets one condition of a pod, if that is still there.
async fn patch_status(pod: &Pod, condition: serde_json::Value, cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let (namespace, name) = names(pod);
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
    unless_gone(cx.client().namespaced::<Pod>(namespace).patch(name, "status", PatchType::StrategicMerge, &patch).await)
}

/// A pod that is gone, or another one by now, needs nothing more.
fn unless_gone<T>(result: Result<T, Status>) -> Result<(), ReconcileError> {
    match result {
        Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status.into()),
        _ => Ok(()),
    }
}

impl Controller for NodeLifecycleController {
    const NAME: &'static str = "node-lifecycle";
    const EVENT_SOURCE: Option<&'static str> = Some("node-controller");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Node>();
        watches.reads::<Lease>();
        watches.map::<Pod>(|change| {
            let added = change.after().filter(|_| change.is_addition());
            added.and_then(|pod| pod.spec.as_ref()?.node_name.clone()).map(ObjectKey::cluster).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(node) = self.nodes.get(key) else {
            let mut seen = self.seen.lock();
            seen.health.remove(&*key.name);
            seen.leaving.remove(&*key.name);
            return Ok(Outcome::Done);
        };
        self.mark(&node.object, &key.name, cx).await?;
        let next = self.evict(&node.object, &key.name, cx).await?;
        let period = PERIOD.min(self.grace / 5);
        Ok(Outcome::RequeueAfter(next.map_or(period, |next| next.min(period))))
    }
}

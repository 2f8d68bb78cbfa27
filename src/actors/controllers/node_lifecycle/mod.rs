//! Node lifecycle: taints nodes by their conditions, marks silent nodes Unknown, and evicts pods that do not tolerate it.
//!
//! `health` tells who is silent, `zones` how many are and how fast nodes may be emptied then, `taints` what a node should
//! be marked with, `departures` which pods leave, `old_labels` how its labels were called before, and `digest` is what is kept of each node.
//! `apply` writes about its pods.
//! A controller that starts knows of no silence yet, so whatever was away before (nodes, the API server, the controller itself)
//! has a whole grace period to come back.

mod apply;
mod departures;
mod digest;
mod health;
pub mod metrics;
mod old_labels;
mod taints;
mod zones;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition, Pod},
};
use parking_lot::Mutex;
use serde_json::json;
use troupe_api::{
    meta::{Cause, ObjectKey},
    projection::MetaProjection,
    service::PatchType,
    stored::StoredObject,
};

pub use self::zones::Pacing;
use self::{
    apply::{delete, patch_status, reference_of, tell_of_node},
    departures::{Bearing, Leaving, Taints},
    digest::NodeDigest,
    health::{Health, Signs},
    old_labels::outdated,
    taints::{Emptying, silenced, tainted},
    zones::{Census, Turns, zone},
};
use super::{
    nodes::is_ready,
    pod_digest::PodDigest,
    pods::{BY_NODE, index_by_node},
};
use crate::runtime::{
    cache::{Cache, Caches, Digest, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    events::EventRecorder,
};

/// A node of which nothing new was seen for so long is Unknown, unless told otherwise (upstream's `--node-monitor-grace-period`).
pub const GRACE: Duration = Duration::from_secs(50);
/// A count of all nodes serves for so long, unless the node in question is not what it was then.
const CENSUS: Duration = Duration::from_secs(1);

/// The source of events about evictions.
const EVICTIONS: &str = "taint-eviction-controller";

/// What else holds for all nodes. The default is upstream's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LifecycleOptions {
    /// How long a node that never reported may be silent (`--node-startup-grace-period`).
    pub startup_grace: Duration,
    /// How often leases are looked at, at most (`--node-monitor-period`).
    pub period: Duration,
    pub pacing: Pacing,
    /// Whether pods leave nodes by taints.
    pub evicts: bool,
}

impl Default for LifecycleOptions {
    fn default() -> Self {
        LifecycleOptions { startup_grace: Duration::from_secs(60), period: Duration::from_secs(5), pacing: Pacing::default(), evicts: true }
    }
}

/// See the module.
pub struct NodeLifecycleController {
    nodes: Cache<Node>,
    digests: Digests<Node, NodeDigest>,
    leases: Cache<Lease>,
    pods: Cache<Pod>,
    pod_digests: Digests<Pod, PodDigest>,
    bearings: Digests<Pod, Bearing>,
    grace: Duration,
    options: LifecycleOptions,
    compares_tolerations: bool,
    seen: Mutex<Seen>,
    /// Upstream's controller that evicts is another one, and events name it.
    evictions: OnceLock<EventRecorder>,
}

/// What this controller has seen since it started.
#[derive(Default)]
struct Seen {
    /// UIDs of the nodes that were told of, by name.
    registered: HashMap<String, Arc<str>>,
    health: HashMap<String, Health>,
    /// Nodes that were ready when they fell silent, until nobody is sent to their pods any more.
    to_mark: HashSet<String>,
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
        let (nodes, pods) = (caches.cache::<Node>(), index_by_node(caches.cache()));
        NodeLifecycleController {
            digests: nodes.digests(),
            nodes,
            leases: caches.cache(),
            pod_digests: pods.digests(),
            bearings: pods.digests(),
            pods,
            grace,
            options: LifecycleOptions::default(),
            compares_tolerations: false,
            seen: Mutex::default(),
            evictions: OnceLock::new(),
        }
    }

    /// The same where other options hold.
    #[must_use]
    pub fn with(self, options: LifecycleOptions) -> Self {
        NodeLifecycleController { options, ..self }
    }

    /// The same where tolerations compare numbers, or not.
    #[must_use]
    pub fn comparing_tolerations(self, compares: bool) -> Self {
        NodeLifecycleController { compares_tolerations: compares, ..self }
    }
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

impl NodeLifecycleController {
    /// Whether nobody was told yet that this node is there.
    fn is_new(&self, name: &str, uid: &Arc<str>) -> bool {
        let mut seen = self.seen.lock();
        let known = seen.registered.get(name) == Some(uid);
        if !known {
            seen.registered.insert(name.to_owned(), uid.clone());
        }
        !known
    }

    /// A node is gone: its UID, if anybody was told of it.
    fn forget(&self, name: &str) -> Option<Arc<str>> {
        let mut seen = self.seen.lock();
        seen.health.remove(name);
        seen.leaving.remove(name);
        seen.to_mark.remove(name);
        seen.registered.remove(name)
    }

    /// Looks for signs of life; whether there were none for too long.
    fn is_silent(&self, node: &NodeDigest, cx: &ReconcileContext) -> bool {
        let lease = self.leases.get_once(&ObjectKey::new("kube-node-lease", node.meta.name.clone()));
        let signs = Signs::of(node.signs, lease.as_deref());
        let created = node.created.unwrap_or_else(|| cx.now());
        let age = Duration::from_secs(cx.now().duration_since(created).as_secs().max(0).unsigned_abs());
        let now = cx.system().instant();
        let mut seen = self.seen.lock();
        let health = seen.health.entry(node.meta.name.to_string()).or_insert_with(|| Health::first(signs, age, now));
        health.see(signs, now);
        health.is_silent(self.grace, self.options.startup_grace, now)
    }

    /// Whether nobody should be sent to the pods of a node any more: once, after it fell silent while it was ready, and as long as it is not back.
    /// Pods of a node that said before that it is not ready are left as they are.
    fn is_to_mark(&self, node: &NodeDigest) -> bool {
        let mut seen = self.seen.lock();
        if node.says_ready {
            seen.to_mark.remove(&*node.meta.name);
        }
        seen.to_mark.contains(&*node.meta.name)
    }

    /// Counts all nodes, `node` as it is here.
    ///
    /// For this purpose half a grace period makes a node doubtful. Nodes that are cut off together fall silent one after the
    /// other, by the times of their last renewals: the first must not be emptied because the last is not missed yet.
    fn census(&self, seen: &mut Seen, node: &NodeDigest, all: &[Arc<NodeDigest>], now: Instant) -> Census {
        let health = &seen.health;
        let well = |node: &NodeDigest| {
            node.says_ready
                && health.get(&*node.meta.name).is_none_or(|health| !health.is_silent(self.grace / 2, self.options.startup_grace / 2, now))
        };
        let (mut census, mut unwell) = (Census::default(), HashSet::new());
        let others = all.iter().map(|other| &**other).filter(|other| other.meta.name != node.meta.name);
        for counted in std::iter::once(node).chain(others) {
            let is_well = well(counted);
            census.count(&counted.counted_zone, is_well);
            if !is_well {
                unwell.insert(counted.meta.name.to_string());
            }
        }
        census.zones().for_each(metrics::known);
        seen.census = Some(Counted { at: now, census: census.clone(), unwell });
        census
    }

    /// The last census, if it serves still.
    fn last_census(&self, seen: &Seen, node: &NodeDigest, now: Instant) -> Option<Census> {
        let doubtful = seen.health.get(&*node.meta.name).is_some_and(|health| health.is_silent(self.grace / 2, self.options.startup_grace / 2, now));
        let is_well = node.says_ready && !doubtful;
        let counted = seen.census.as_ref()?;
        let serves = now.saturating_duration_since(counted.at) < CENSUS && is_well != counted.unwell.contains(&*node.meta.name);
        serves.then(|| counted.census.clone())
    }

    /// Whether `node` may be emptied now if it should be.
    async fn emptying(&self, node: &NodeDigest, cx: &ReconcileContext) -> Emptying {
        let last = self.last_census(&self.seen.lock(), node, cx.system().instant());
        let census = match last {
            Some(census) => census,
            None => {
                let all = self.digests.read(&self.nodes.select_stored("", |_| true)).await;
                self.census(&mut self.seen.lock(), node, &all, cx.system().instant())
            }
        };
        let now = cx.system().instant();
        let mut seen = self.seen.lock();
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
        match node.needs_a_turn {
            _ if all_lost => Emptying::Stopped,
            true if seen.turns.take(&node.zone, &census, &self.options.pacing, now) => Emptying::Allowed,
            _ => Emptying::Waits,
        }
    }

    /// Brings conditions, labels and taints up to date. The node is decoded only where something is to be done.
    async fn mark(&self, stored: &Arc<StoredObject>, digest: &Arc<NodeDigest>, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let (mut digest, mut current) = (digest.clone(), None);
        let name = &*stored.key.name;
        let silent = self.is_silent(&digest, cx);
        if silent
            && !digest.says_silent
            && let Some(node) = Cache::<Node>::decode(stored)
            && let Some(conditions) = silenced(&node, cx.now())
        {
            let patch = json!({"status": {"conditions": conditions}});
            if is_ready(&node) {
                // Also where the reply gets lost: afterwards nothing tells that it was ready.
                self.seen.lock().to_mark.insert(name.to_owned());
            }
            let written = cx.client().all::<Node>().patch(name, "status", PatchType::StrategicMerge, &patch).await?;
            if is_ready(&node) {
                cx.events().normal(&ReconcileContext::reference(&*node), "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
            }
            cx.wrote(&self.nodes, &*written);
            digest = Arc::new(NodeDigest::of(stored.shared_meta(), &*written));
            current = Some(written);
        }
        let labels = Some(outdated(&digest.meta.labels)).filter(|labels| !labels.is_empty()).map(|labels| json!(labels));
        if let Some(labels) = labels {
            let patch = json!({"metadata": {"labels": labels}});
            let written = cx.client().all::<Node>().patch(name, "", PatchType::StrategicMerge, &patch).await?;
            cx.wrote(&self.nodes, &*written);
            digest = Arc::new(NodeDigest::of(stored.shared_meta(), &*written));
            current = Some(written);
        }
        if self.is_to_mark(&digest) {
            self.mark_pods(name, cx).await?;
            self.seen.lock().to_mark.remove(name);
        }
        let emptying = self.emptying(&digest, cx).await;
        if digest.fits(emptying) {
            return Ok(());
        }
        let Some(current) = current.or_else(|| Cache::<Node>::decode(stored)) else { return Ok(()) };
        self.taint(&current, emptying, name, cx).await
    }

    /// Sets the taints that the node should have.
    async fn taint(&self, node: &Node, emptying: Emptying, name: &str, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let Some(taints) = tainted(node, emptying, cx.now()) else { return Ok(()) };
        // The resourceVersion keeps taints that somebody else sets at the same time.
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
        match cx.client().all::<Node>().patch(name, "", PatchType::Merge, &patch).await {
            Ok(written) => {
                cx.wrote(&self.nodes, &*written);
                if emptying == Emptying::Allowed {
                    metrics::evicted(&zone(node));
                }
                Ok(())
            }
            Err(status) => {
                if emptying == Emptying::Allowed {
                    self.seen.lock().turns.give_back(&zone(node));
                }
                Err(status.into())
            }
        }
    }

    /// Nobody should be sent to the pods of a silent node. Its kubelet corrects that when it is back.
    async fn mark_pods(&self, name: &str, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        for stored in self.pods.by_index_stored(BY_NODE, name, |_| true) {
            let is_ready = self.pod_digests.of(&stored).is_some_and(|pod| pod.standing.is_ready);
            if !is_ready {
                continue;
            }
            let Some(pod) = Cache::<Pod>::decode(&stored) else { continue };
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": troupe_api::meta::time::format_time(cx.now())});
            patch_status(&pod, json!({"conditions": [condition]}), cx).await?;
            cx.events().warning(&ReconcileContext::reference(&*pod), "NodeNotReady", "Node is not ready".to_owned());
        }
        Ok(())
    }

    async fn evict(&self, stored: &Arc<StoredObject>, digest: &NodeDigest, cx: &ReconcileContext) -> Result<Option<Duration>, ReconcileError> {
        let name = &*stored.key.name;
        let before = self.seen.lock().leaving.remove(name).unwrap_or_default();
        if !digest.evicts && before.is_empty() {
            return Ok(None);
        }
        let Some(node) = Cache::<Node>::decode(stored) else { return Ok(None) };
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let pods = self.bearings.read(&self.pods.by_index_stored(BY_NODE, name, |_| true)).await;
        let plan = departures::plan(&pods, Taints { of_node: taints, compared: self.compares_tolerations }, &before, cx.system().instant());
        if !plan.leaving.is_empty() {
            self.seen.lock().leaving.insert(name.to_owned(), plan.leaving);
        }
        for bearing in &plan.cancelled {
            self.tell(bearing, "Cancelling deletion of", cx);
        }
        for bearing in &plan.leave {
            if let Some(pod) = self.pod_of(bearing) {
                self.tell(bearing, "Marking for deletion", cx);
                delete(&pod, cx).await?;
            }
            if let Some(leaving) = self.seen.lock().leaving.get_mut(name) {
                leaving.note_told(&bearing.meta.uid);
            }
        }
        Ok(plan.next)
    }

    /// The pod, if it is still there.
    fn pod_of(&self, bearing: &Bearing) -> Option<Arc<Pod>> {
        let pod = self.pods.get_once(&ObjectKey::new(bearing.meta.namespace.clone(), bearing.meta.name.clone()))?;
        (pod.metadata.uid.as_deref() == Some(&*bearing.meta.uid)).then_some(pod)
    }

    fn tell(&self, bearing: &Bearing, what: &str, cx: &ReconcileContext) {
        let MetaProjection { namespace, name, .. } = &*bearing.meta;
        let events = self.evictions.get_or_init(|| EventRecorder::new(cx.system(), &cx.client().caused_by(Cause::default()), EVICTIONS));
        events.normal(&reference_of(bearing), "TaintManagerEviction", format!("{what} Pod {namespace}/{name}"));
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
        let node = self.nodes.stored(key).and_then(|stored| Some((self.digests.of(&stored)?, stored)));
        let Some((digest, stored)) = node else {
            if let Some(uid) = self.forget(&key.name) {
                tell_of_node(&key.name, &uid, "RemovingNode", format!("Removing Node {} from Controller", key.name), cx);
            }
            return Ok(Outcome::Done);
        };
        if self.is_new(&key.name, &digest.meta.uid) {
            tell_of_node(&key.name, &digest.meta.uid, "RegisteredNode", format!("Registered Node {} in Controller", key.name), cx);
        }
        self.mark(&stored, &digest, cx).await?;
        let next = if self.options.evicts { self.evict(&stored, &digest, cx).await? } else { None };
        let period = self.options.period.min(self.grace / 5);
        Ok(Outcome::RequeueAfter(next.map_or(period, |next| next.min(period))))
    }
}

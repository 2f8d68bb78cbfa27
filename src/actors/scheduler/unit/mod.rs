//! The scheduler's unit: takes changes in, decides in small batches, binds in parallel.

mod taking;
mod unschedulable;

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Message;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, Pod};
use rand::{RngCore, rngs::StdRng};
use serde_json::{Value, json};
use troupe_api::{
    client::Client,
    meta::{Cause, ObjectKey},
    status::Status,
    stored::KubeObject,
};

use super::{
    bind,
    decide::{Decision, SchedulingContext, decide},
    framework::Profile,
    intake::{Intake, News, node_news, pod_news},
    metrics::{self, AttemptResult, ExtensionPoint},
    object_lookup::{CachedObjects, ObjectLookup},
    plugins::{default_profile, with_volumes},
    pod_info::PodInfo,
    quarantine::{LONG_PAUSE, PAUSE, Quarantine, QuarantineDecision},
    queue::SchedulingQueue,
    snapshot::Snapshot,
    volumes::{self, PodVolumes, StorageCaches, choose::has_claims},
};
use crate::runtime::{
    cache::{Cache, Caches},
    chaos::die_if,
    controller::ReconcileContext,
    envelope::Reply,
    events::{self, EventRecorder},
    host::{On, Unit, UnitContext},
    panics::panic_text,
    turn::{Turn, give_way},
    work::{self, Attempt, Version},
};

/// What the scheduler is called where it is noted what it works on.
const NAME: &str = "scheduler";

/// Decisions between two looks at the mailbox.
const BATCH: usize = 64;
/// How often pods that have waited very long are tried again.
const FLUSH: Duration = Duration::from_secs(30);

/// Take changes in and decide. Idempotent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// See the module.
pub struct SchedulerUnit {
    client: Client,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    intake: Arc<Intake>,
    /// Changes that were taken and wait for their turn.
    unread: VecDeque<News>,
    /// It will pump again in a moment.
    goes_on: bool,
    storage: StorageCaches,
    subscriptions: Vec<Box<dyn Any>>,
    queue: SchedulingQueue,
    snapshot: Snapshot,
    profile: Arc<Profile>,
    around: CachedObjects,
    /// Pods that want a node, with what brought their newest version. The cache has the pods.
    pending: HashMap<ObjectKey, Cause>,
    /// Bound by us, not yet seen bound.
    assumed: HashMap<ObjectKey, Arc<str>>,
    quarantine: Quarantine,
    events: Option<EventRecorder>,
    rng: Option<StdRng>,
    synced: bool,
    next_start: usize,
    /// When it wakes by itself.
    alarm: Option<Instant>,
    bound: u64,
    failed: u64,
}

impl SchedulerUnit {
    pub(super) fn new(caches: Caches, client: Client) -> Self {
        let storage = StorageCaches::new(&caches);
        let profile = Arc::new(with_volumes(default_profile(), &storage));
        SchedulerUnit {
            client,
            pods: caches.cache(),
            nodes: caches.cache(),
            intake: Arc::default(),
            unread: VecDeque::new(),
            goes_on: false,
            storage,
            subscriptions: Vec::new(),
            queue: SchedulingQueue::default(),
            snapshot: Snapshot::default(),
            profile,
            around: CachedObjects::new(&caches),
            pending: HashMap::new(),
            assumed: HashMap::new(),
            quarantine: Quarantine::default(),
            events: None,
            rng: None,
            synced: false,
            next_start: 0,
            alarm: None,
            bound: 0,
            failed: 0,
        }
    }

    /// Decides for a batch of pods, then gives way if more wait.
    fn pump(&mut self, cx: &mut UnitContext<'_, Self>) {
        // What the lead was for is others' work once it is lost.
        if self.goes_on || self.client.service().has_ended() {
            return;
        }
        if !self.take_in(cx) {
            return self.go_on(cx);
        }
        if !self.synced {
            return;
        }
        let now = cx.system().instant();
        let mut turn = Turn::default();
        for _ in 0..BATCH {
            let Some(key) = self.queue.pop(now) else {
                self.measure();
                return self.arm(cx);
            };
            // A pod that is gone from the cache is news that comes with the next look.
            if let (Some(cause), Some(cached)) = (self.pending.get(&key).cloned(), self.pods.get(&key)) {
                let version = Version::of(&cached.stored);
                if !self.set_aside_if_deadly(&key, version, &cached.object, cx) {
                    self.attempt(key, (cached.object, version), cause, cx);
                }
            }
            if turn.count() {
                break;
            }
        }
        self.measure();
        self.go_on(cx);
    }

    /// Pumps again when the others on its arbiter had their turn.
    fn go_on(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.goes_on = true;
        cx.spawn_then(give_way(), |unit, (), cx| {
            unit.goes_on = false;
            unit.pump(cx);
        });
    }

    /// Subscribes to what decides about pods' claims; resolves when that is known.
    fn follow_storage(&mut self, wake: &(impl Fn() + Clone + Send + Sync + 'static)) -> Vec<BoxFuture<'static, ()>> {
        let storage = self.storage.clone();
        let claims = self.follow(&storage.claims, wake.clone());
        let volumes = self.follow(&storage.volumes, wake.clone());
        let classes = self.follow(&storage.classes, wake.clone());
        vec![claims, volumes, classes]
    }

    fn follow<K: KubeObject>(&mut self, cache: &Cache<K>, wake: impl Fn() + Send + Sync + 'static) -> BoxFuture<'static, ()> {
        let intake = self.intake.clone();
        let subscription = cache.subscribe(move |change| {
            if !change.is_removal() && intake.add(News::Storage) {
                wake();
            }
        });
        let filled = Box::pin(subscription.filled());
        self.subscriptions.push(Box::new(subscription));
        filled
    }

    fn measure(&self) {
        metrics::state(self.queue.depth(), self.snapshot.nodes().len(), self.assumed.len());
    }

    fn arm(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(due) = self.queue.next_wakeup() else { return };
        if self.alarm.is_some_and(|alarm| alarm <= due) {
            return;
        }
        self.alarm = Some(due);
        cx.after(due.saturating_duration_since(cx.system().instant()), move |unit, cx| {
            // A pod that is due earlier has set another alarm in between.
            if unit.alarm == Some(due) {
                unit.alarm = None;
                unit.pump(cx);
            }
        });
    }

    /// Leaves a pod alone in whose hands the processes before this one died.
    fn set_aside_if_deadly(&mut self, key: &ObjectKey, version: Version, pod: &Pod, cx: &mut UnitContext<'_, Self>) -> bool {
        let (record, now) = (cx.system().work(), cx.system().instant());
        if !record.has_suspects() {
            return false;
        }
        let deaths = record.deaths(&Attempt { unit: NAME, key, version });
        if deaths < work::DEATHS {
            return false;
        }
        let why = work::death_message(NAME, deaths);
        tracing::error!(%key, why, "set aside");
        self.quarantine.died(key, pod, why.clone());
        self.queue.set_aside(key, now + LONG_PAUSE);
        if let Some(events) = &self.events {
            events.trying("Scheduling").warning(&ReconcileContext::reference(pod), events::QUARANTINED, why);
        }
        true
    }

    fn attempt(&mut self, key: ObjectKey, (pod, version): (Arc<Pod>, Version), cause: Cause, cx: &mut UnitContext<'_, Self>) {
        let cause = cx.step("Schedule", &cause);
        let begun = Instant::now();
        let chance = self.rng.as_mut().map_or(0, RngCore::next_u64);
        let poisoned = cx.is_poisoned(&key);
        // Pure, so a panic leaves nothing half done: only this pod must suffer.
        let decide = || {
            catch_unwind(AssertUnwindSafe(|| {
                die_if(poisoned);
                let info = PodInfo::new(pod.clone(), &self.around);
                self.snapshot.prepare(&info);
                let (profile, cluster, budgets) = (&*self.profile, &self.snapshot, &|| self.around.budgets());
                decide(&info, &SchedulingContext { profile, cluster, start: self.next_start, chance, budgets })
            }))
        };
        let decided = work::noting(cx.system().work(), &Attempt { unit: NAME, key: &key, version }, decide);
        metrics::decided(begun.elapsed());
        let (decision, looked_at) = match decided {
            Ok(decided) => {
                self.quarantine.forget(&key);
                if cx.system().work().has_suspects() {
                    cx.system().work().forget(NAME, &key);
                }
                decided
            }
            Err(panic) => {
                metrics::attempted(AttemptResult::Error, begun.elapsed());
                return self.panicked(&key, &pod, panic_text(panic.as_ref()), cx);
            }
        };
        let nodes = self.snapshot.nodes().len().max(1);
        self.next_start = (self.next_start + looked_at) % nodes;
        match decision {
            Decision::Bind { node } => self.bind(key, pod, node, (cause, begun), cx),
            Decision::Unschedulable(unschedulable) => {
                self.failed += 1;
                metrics::attempted(AttemptResult::Unschedulable, begun.elapsed());
                self.handle_unschedulable(key, pod, unschedulable, cause, cx);
            }
        }
    }

    /// Sets a pod aside on which decisions panic.
    fn panicked(&mut self, key: &ObjectKey, pod: &Pod, why: String, cx: &mut UnitContext<'_, Self>) {
        tracing::warn!(%key, panic = why, "deciding panicked");
        self.failed += 1;
        let now = cx.system().instant();
        let message = events::quarantine_message("scheduler", &why);
        let decision = self.quarantine.panicked(key, pod, why);
        match decision {
            QuarantineDecision::Retry => self.queue.failed(key, now),
            QuarantineDecision::Quarantine | QuarantineDecision::StillQuarantined => self.queue.set_aside(key, now + PAUSE),
        }
        if let (QuarantineDecision::Quarantine, Some(events)) = (decision, &self.events) {
            events.trying("Scheduling").warning(&ReconcileContext::reference(pod), events::QUARANTINED, message);
        }
        self.arm(cx);
    }

    /// Counts the pod on its node at once and binds in the background. The attempt began at `begun`.
    fn bind(&mut self, key: ObjectKey, pod: Arc<Pod>, node: Arc<str>, (cause, begun): (Cause, Instant), cx: &mut UnitContext<'_, Self>) {
        self.queue.binding(&key);
        self.snapshot.nominations_mut().remove(&key);
        self.snapshot.set_pod(&node, &pod);
        self.assumed.insert(key.clone(), node.clone());
        let history = self.queue.history(&key, cx.system().instant());
        let client = self.client.caused_by(cause);
        let target = node.clone();
        let posted = pod.clone();
        let (storage, chosen) = (self.storage.clone(), self.snapshot.node(&node).map(|info| info.node.clone()));
        let binding = async move {
            let asked = Instant::now();
            let bound = match prepare(&client, &storage, &posted, chosen.as_deref()).await {
                Ok(()) => bind::bind(&client, &posted, &target).await,
                failed => failed,
            };
            metrics::asked(ExtensionPoint::Bind, if bound.is_ok() { "Success" } else { "Error" }, asked.elapsed());
            bound
        };
        cx.spawn_then(binding, move |unit, result, cx| match result {
            Ok(()) => {
                unit.bound += 1;
                metrics::attempted(AttemptResult::Scheduled, begun.elapsed());
                if let Some((waited, attempts)) = history {
                    metrics::scheduled(waited + begun.elapsed(), attempts);
                }
                let message = format!("Successfully assigned {key} to {node}");
                if let Some(events) = &unit.events {
                    events.trying("Binding").normal(&ReconcileContext::reference(&*pod), "Scheduled", message);
                }
            }
            Err(status) => {
                tracing::debug!(%key, error = %status, "binding failed, will retry");
                unit.failed += 1;
                metrics::attempted(AttemptResult::Error, begun.elapsed());
                if unit.assumed.remove(&key).is_some() {
                    unit.snapshot.remove_pod(&key);
                }
                unit.queue.failed(&key, cx.system().instant());
                unit.arm(cx);
            }
        });
    }
}

/// Binds the pod's claims for its node.
async fn prepare(client: &Client, storage: &StorageCaches, pod: &Pod, node: Option<&Node>) -> Result<(), Status> {
    if !has_claims(pod) {
        return Ok(());
    }
    let node = node.ok_or_else(|| Status::internal("the node is gone"))?;
    let volumes = PodVolumes::of(pod, storage).map_err(Status::internal)?;
    let choice = volumes.on_node(node).map_err(|reasons| Status::internal(reasons.join(", ")))?;
    volumes::bind::bind(client, storage, pod, node, &choice).await
}

impl Unit for SchedulerUnit {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.events = Some(EventRecorder::in_series(cx.system(), &self.client, super::DEFAULT_SCHEDULER));
        self.rng = Some(cx.system().rng());
        let address = cx.address();
        let wake = move || address.wake(Wake, Cause::default());
        let (intake, wake_node, wake_storage) = (self.intake.clone(), wake.clone(), wake.clone());
        let nodes = self.nodes.subscribe(move |change| {
            if intake.add(node_news(change)) {
                wake_node();
            }
        });
        let (intake, profile) = (self.intake.clone(), self.profile.clone());
        let pods = self.pods.subscribe(move |change| {
            if intake.add(pod_news(change, &profile)) {
                wake();
            }
        });
        // In a fixed order, so that simulations repeat themselves.
        let (of_nodes, of_pods, around) = (nodes.filled(), pods.filled(), self.around.synced());
        self.subscriptions = vec![Box::new(pods), Box::new(nodes)];
        let storage = self.follow_storage(&wake_storage);
        let filled = async move {
            of_nodes.await;
            of_pods.await;
            around.await;
            for kind in storage {
                kind.await;
            }
        };
        cx.spawn_then(filled, |unit, (), cx| {
            unit.synced = true;
            unit.pump(cx);
        });
        cx.every(FLUSH, |unit, cx| {
            unit.queue.flush_long_waiting(cx.system().instant());
            unit.pump(cx);
        });
    }

    fn observe(&self) -> Value {
        json!({
            "synced": self.synced,
            "queue": self.queue.depth(),
            "nodes": self.snapshot.nodes().len(),
            "assumed": self.assumed.len(),
            "bound": self.bound,
            "failedAttempts": self.failed,
            "kind": "Pod",
            "quarantined": self.quarantine.list(),
        })
    }
}

impl On<Wake> for SchedulerUnit {
    fn on(&mut self, _wake: Wake, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.pump(cx);
        Reply::Now(())
    }
}

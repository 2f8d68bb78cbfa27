//! The scheduler's unit: takes changes in, decides in small batches, binds in parallel.

mod asking;
mod attempt;
mod explaining;
mod group;
mod measuring;
mod placing;
mod rejections;
mod taking;
mod unschedulable;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Message;
use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1beta2::DeviceTaintRule,
};
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use troupe_api::{
    meta::{Cause, ObjectKey},
    stored::KubeObject,
};
use troupe_api_client::Client;

use self::{measuring::Measuring, placing::Seat, rejections::Rejections, unschedulable::Removal};
use super::{
    MakeSetup, Setup,
    devices::caches::DeviceCaches,
    extender::Extenders,
    framework::{Profile, Profiles, WaitingPods},
    gangs::GangCaches,
    intake::{Intake, News, group_news, node_news, pod_news},
    metrics,
    object_lookup::CachedObjects,
    plugins::Parts,
    quarantine::{LONG_PAUSE, Quarantine},
    queue::SchedulingQueue,
    ranking::Rankings,
    snapshot::Snapshot,
    volumes::StorageCaches,
};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::ReconcileContext,
    envelope::Reply,
    events::{self, EventRecorder},
    host::{On, Unit, UnitContext},
    turn::{Turn, give_way},
    work::{self, Attempt, Version},
};

/// What the scheduler is called where it is noted what it works on.
const NAME: &str = "scheduler";

/// Decisions between two looks at the mailbox.
const BATCH: usize = 64;
/// How often pods that have waited very long are tried again.
const FLUSH: Duration = Duration::from_secs(30);
/// How long rules that taint devices are waited for at the start. Their feature may be on where nobody serves them.
const RULES_PATIENCE: Duration = Duration::from_secs(10);

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
    devices: DeviceCaches,
    /// Groups of pods, where their feature is on.
    gangs: Option<GangCaches>,
    /// Rules that taint devices, likewise.
    taint_rules: Option<Cache<DeviceTaintRule>>,
    subscriptions: Vec<Box<dyn Any>>,
    queue: SchedulingQueue,
    snapshot: Snapshot,
    profiles: Profiles,
    /// The same anew, by which pods are explained.
    explaining: Profiles,
    /// Pods that plugins make wait.
    waiting: Arc<WaitingPods>,
    extenders: Extenders,
    parallelism: usize,
    /// How many pods extenders are being asked about.
    asking: usize,
    /// Pods for which something is searched aside: dropped when they are gone.
    searching: HashMap<ObjectKey, oneshot::Sender<()>>,
    measuring: Measuring,
    around: CachedObjects,
    /// Pods that want a node, with what brought their newest version. The cache has the pods.
    pending: HashMap<ObjectKey, Cause>,
    /// Pods for which others are being removed.
    preempting: HashMap<ObjectKey, Removal>,
    /// Bound by us, not yet seen bound.
    assumed: HashMap<ObjectKey, Seat>,
    quarantine: Quarantine,
    rejections: Rejections,
    rankings: Rankings,
    /// By the names of the profiles.
    events: BTreeMap<Arc<str>, EventRecorder>,
    rng: Option<StdRng>,
    synced: bool,
    next_start: usize,
    /// When it wakes by itself.
    alarm: Option<Instant>,
    bound: u64,
    failed: u64,
}

impl SchedulerUnit {
    pub(super) fn new(caches: Caches, client: Client, make: &MakeSetup) -> Self {
        let storage = StorageCaches::new(&caches);
        let devices = DeviceCaches::new(&caches);
        let (of_storage, of_devices) = (Some(storage.clone()), Some(devices.clone()));
        let parts = Parts { storage: of_storage, devices: of_devices, caches: Some(caches.clone()), ..Parts::default() };
        let Setup { profiles, backoffs, extenders, parallelism, gangs, taint_rules, measures } = make(&parts);
        let explaining = make(&parts).profiles;
        let measures = measures && profiles.iter().any(|profile| profile.scoring().any(|(plugin, _)| plugin.name() == "NodeInterference"));
        SchedulerUnit {
            client,
            pods: caches.cache(),
            nodes: caches.cache(),
            intake: Arc::default(),
            unread: VecDeque::new(),
            goes_on: false,
            storage,
            devices,
            gangs,
            taint_rules,
            subscriptions: Vec::new(),
            queue: SchedulingQueue::new(backoffs),
            // Extenders are told of whole nodes.
            snapshot: if extenders.is_empty() { Snapshot::of_slim_nodes() } else { Snapshot::default() },
            profiles,
            explaining,
            waiting: parts.waiting,
            extenders,
            parallelism,
            asking: 0,
            searching: HashMap::new(),
            measuring: Measuring::new(measures, parts.usage),
            around: CachedObjects::new(&caches),
            pending: HashMap::new(),
            preempting: HashMap::new(),
            assumed: HashMap::new(),
            quarantine: Quarantine::default(),
            rejections: Rejections::default(),
            rankings: Rankings::default(),
            events: BTreeMap::new(),
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
        self.measure_nodes(now, cx);
        let mut turn = Turn::default();
        for _ in 0..BATCH {
            // What extenders have to say brings it back.
            if self.asking >= self.parallelism {
                return self.measure();
            }
            let Some(key) = self.queue.pop(now) else {
                self.measure();
                return self.arm(cx);
            };
            match self.gangs.as_ref().and_then(|known| known.gangs.group_of(&key)) {
                Some(group) => self.attempt_group(&group, key, cx),
                None => self.attempt(key, cx),
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
        let claims = self.follow(&storage.claims, false, wake.clone());
        let volumes = self.follow(&storage.volumes, false, wake.clone());
        let classes = self.follow(&storage.classes, false, wake.clone());
        let csi_nodes = self.follow(&storage.csi_nodes, false, wake.clone());
        let drivers = self.follow(&storage.drivers, false, wake.clone());
        let capacities = self.follow(&storage.capacities, false, wake.clone());
        // What is detached makes room.
        let attachments = self.follow(&storage.attachments, true, wake.clone());
        vec![claims, volumes, classes, csi_nodes, drivers, capacities, attachments]
    }

    /// The same of what decides about pods' devices.
    fn follow_devices(&mut self, wake: &(impl Fn() + Clone + Send + Sync + 'static)) -> Vec<BoxFuture<'static, ()>> {
        let devices = self.devices.clone();
        let (intake, woken, known) = (self.intake.clone(), wake.clone(), devices.clone());
        let slices = devices.published.subscribe(move |change| {
            known.take(change);
            if !change.is_removal() && intake.add(News::Devices) {
                woken();
            }
        });
        let (intake, woken, known) = (self.intake.clone(), wake.clone(), devices.clone());
        let claims = devices.claims.subscribe(move |change| {
            known.take_claim(change);
            let Some(new) = change.after().cloned() else { return };
            if intake.add(News::Claim { old: change.before().cloned(), new }) {
                woken();
            }
        });
        let (intake, woken, known) = (self.intake.clone(), wake.clone(), devices.clone());
        let classes = devices.classes.subscribe(move |change| {
            known.note_change();
            let Some(new) = change.after().cloned() else { return };
            if intake.add(News::Class { old: change.before().cloned(), new }) {
                woken();
            }
        });
        let mut filled: Vec<BoxFuture<'static, ()>> = vec![Box::pin(slices.filled()), Box::pin(claims.filled()), Box::pin(classes.filled())];
        self.subscriptions.extend([Box::new(slices) as Box<dyn Any>, Box::new(claims), Box::new(classes)]);
        filled.extend(self.follow_taint_rules(wake.clone()));
        filled
    }

    /// The same of rules that taint devices, where there may be some.
    fn follow_taint_rules(&mut self, wake: impl Fn() + Send + Sync + 'static) -> Option<BoxFuture<'static, ()>> {
        let rules = self.taint_rules.clone()?;
        let (intake, devices) = (self.intake.clone(), self.devices.clone());
        let subscription = rules.subscribe(move |change| {
            if devices.take_rule(change) && intake.add(News::Devices) {
                wake();
            }
        });
        let filled = subscription.filled();
        self.subscriptions.push(Box::new(subscription));
        Some(Box::pin(async move {
            let mut filled = Box::pin(filled);
            if tokio::time::timeout(RULES_PATIENCE, &mut filled).await.is_err() {
                tracing::warn!("device taint rules are not served: devices are given out as if there were none until they are");
                drop(tokio::spawn(filled));
            }
        }))
    }

    /// The same of groups of pods. Nobody waits for them: where they are not served, their pods wait, and no others.
    fn follow_groups(&mut self, wake: impl Fn() + Send + Sync + 'static, cx: &mut UnitContext<'_, Self>) {
        let Some(known) = &self.gangs else { return };
        let intake = self.intake.clone();
        let groups = known.groups.subscribe(move |change| {
            if intake.add(group_news(change)) {
                wake();
            }
        });
        cx.spawn(groups.filled());
        self.subscriptions.push(Box::new(groups));
    }

    /// Hears of objects that come or change, or else of those that go.
    fn follow<K: KubeObject>(&mut self, cache: &Cache<K>, removals: bool, wake: impl Fn() + Send + Sync + 'static) -> BoxFuture<'static, ()> {
        let intake = self.intake.clone();
        let subscription = cache.subscribe(move |change| {
            if change.is_removal() == removals && intake.add(News::Storage) {
                wake();
            }
        });
        let filled = Box::pin(subscription.filled());
        self.subscriptions.push(Box::new(subscription));
        filled
    }

    fn measure(&self) {
        metrics::state(self.queue.depth(), self.snapshot.nodes().len(), self.assumed.len());
        self.rejections.counts().for_each(|(plugin, profile, pods)| metrics::rejected(plugin, profile, pods));
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
        if let Some(events) = self.profiles.of(pod).and_then(|profile| self.events_of(profile)) {
            events.trying("Scheduling").warning(&ReconcileContext::reference(pod), events::QUARANTINED, why);
        }
        true
    }

    /// The recorder of a profile's events.
    fn events_of(&self, profile: &Profile) -> Option<&EventRecorder> {
        self.events.get(&profile.name)
    }
}

impl Unit for SchedulerUnit {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let recorder = |profile: &Arc<Profile>| (profile.name.clone(), EventRecorder::in_series(cx.system(), &self.client, &profile.name));
        self.events = self.profiles.iter().map(recorder).collect();
        self.rng = Some(cx.system().rng());
        let address = cx.address();
        let wake = move || address.wake(Wake, Cause::default());
        let (intake, wake_node, wake_storage) = (self.intake.clone(), wake.clone(), wake.clone());
        let nodes = self.nodes.subscribe(move |change| {
            if intake.add(node_news(change)) {
                wake_node();
            }
        });
        let (intake, profiles) = (self.intake.clone(), self.profiles.clone());
        let pods = self.pods.subscribe(move |change| {
            if intake.add(pod_news(change, &profiles)) {
                wake();
            }
        });
        // In a fixed order, so that simulations repeat themselves.
        let (of_nodes, of_pods, around) = (nodes.filled(), pods.filled(), self.around.synced());
        self.subscriptions = vec![Box::new(pods), Box::new(nodes)];
        let mut storage = self.follow_storage(&wake_storage);
        storage.extend(self.follow_devices(&wake_storage));
        self.follow_groups(wake_storage, cx);
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
            "waiting": self.waiting.list(),
            "searching": self.searching.keys().map(ToString::to_string).collect::<BTreeSet<_>>(),
            "profiles": self.profiles.iter().map(|profile| (profile.name.to_string(), profile.observe())).collect::<BTreeMap<_, _>>(),
            "bound": self.bound,
            "failedAttempts": self.failed,
            "kind": "Pod",
            "quarantined": self.quarantine.list(),
        })
    }

    fn asked(&mut self, about: &str) -> Option<Value> {
        let key = explaining::key_of(about)?;
        self.explained(&key).or_else(|| self.ranking_of(&key))
    }
}

impl On<Wake> for SchedulerUnit {
    fn on(&mut self, _wake: Wake, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.pump(cx);
        Reply::Now(())
    }
}

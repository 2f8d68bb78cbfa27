//! Keeps pods from filling the node's disks: a pod that takes more than its limits has to go, and while a disk is short of room one pod
//! after the other, as upstream ranks them.
//!
//! In: what is free, the sooner again the less there is and the faster it goes; what pods take, as often as disks fill. Out: whether
//! the node has disk pressure, and pods to be evicted: their processes are killed at once, unless a soft threshold grants them time.

mod grace;
pub mod limits;
mod making_room;
pub(super) mod measure;
pub mod pressure;
pub mod processes;
pub mod rank;
mod record;
pub mod settings;
pub mod signals;
mod tracker;
mod unnamed;
pub mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_cri::names::PodIdentity;

pub use self::grace::GracePeriods;
use self::{
    making_room::Collection,
    measure::{Counting, RunningContainer},
    pressure::{Monitor, Outlook},
    rank::Candidate,
    record::Record,
    signals::{Met, Readings},
    usage::Place,
};
use super::{
    cgroups,
    context::NodeContext,
    events::Note,
    image_collection::ImageCollection,
    manifests::Manifests,
    pods::{AllPods, Evict, Pods},
    rotation::{LogRotation, LookAtLogs},
};
use crate::{
    files::blocking,
    pod_phase::is_finished,
    runtime::host::{Unit, UnitAddr, UnitContext},
};

/// The reason that evicted pods show.
pub const REASON: &str = "Evicted";

/// Pods are counted so often (upstream's `monitoringInterval`).
const PERIOD: Duration = Duration::from_secs(10);
/// Sooner when so much was written since they were, in bytes.
const WRITTEN: u64 = 32 << 20;
/// But not before so many times as long as counting took.
const PAUSES: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a decision waits for pods that are still being counted.
const PATIENCE: Duration = Duration::from_millis(300);
/// What was counted so short a time ago is good enough when a disk fills.
const FRESH: Duration = Duration::from_millis(500);
/// How long the next pod waits for the room that one leaves (upstream's `podCleanupTimeout`).
const CLEANUP: Duration = Duration::from_secs(30);
/// And when a disk fills nevertheless.
const CLEANUP_WHEN_URGENT: Duration = Duration::from_millis(300);
/// Logs are looked at when so much was written at once.
const WRITTEN_TO_LOGS: u64 = 8 << 20;
/// A pod that is still not seen to end after so long is evicted again.
const AGAIN: Duration = Duration::from_secs(60);
/// What kills a pod's processes looks so often, after such pauses, for those that still live or were born meanwhile.
const KILLS: u32 = 50;
const BETWEEN_KILLS: Duration = Duration::from_millis(20);
/// A pod's processes have ended after so long, or never will.
const DEATH: Duration = Duration::from_secs(2);

/// One counting of all pods.
#[derive(Clone, Copy)]
struct Round {
    began: Instant,
    open: usize,
    /// How long it took; `None` while it goes on.
    took: Option<Duration>,
    /// Whether it counts pods without limits, too: whoever may have to go when room is short.
    all: bool,
}

/// A pod that was evicted for the room that it leaves.
struct Leaving {
    uid: String,
    since: Instant,
    /// Seconds that its processes have to end.
    grace: u64,
    /// Nothing of it was left at the look before: what is free now is known with its room.
    gone: bool,
}

/// Whom it tells.
#[derive(Clone)]
pub struct Units {
    pub pods: UnitAddr<Pods>,
    pub logs: UnitAddr<LogRotation>,
    pub images: UnitAddr<ImageCollection>,
}

/// The unit that evicts.
pub struct Eviction {
    context: Arc<NodeContext>,
    all: AllPods,
    manifests: Manifests,
    units: Units,
    monitor: Monitor,
    grace: GracePeriods,
    /// Unused images are removed before pods are evicted.
    collection: Collection,
    /// Where the runtime keeps images, once it has told, and when it was asked.
    images: Option<PathBuf>,
    asked: Option<Instant>,
    readings: Readings,
    outlook: Outlook,
    /// Since when a threshold is met.
    met_since: Option<Instant>,
    /// Bytes written since pods were counted.
    written: u64,
    round: Option<Round>,
    records: BTreeMap<String, Record>,
    /// The pod whose room is waited for.
    last: Option<Leaving>,
    evicted: BTreeMap<String, Instant>,
    evictions: u64,
}

impl Eviction {
    pub fn new(context: Arc<NodeContext>, all: AllPods, manifests: Manifests, units: Units, monitor: Monitor, grace: GracePeriods) -> Self {
        Eviction {
            context,
            all,
            manifests,
            units,
            monitor,
            grace,
            collection: Collection::default(),
            images: None,
            asked: None,
            readings: Readings::default(),
            outlook: Outlook::default(),
            met_since: None,
            written: 0,
            round: None,
            records: BTreeMap::new(),
            last: None,
            evicted: BTreeMap::new(),
            evictions: 0,
        }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (context, known) = (self.context.clone(), self.images.clone());
        let asks = known.is_none() && self.asked.is_none_or(|asked| asked.elapsed() > PERIOD);
        self.asked = if asks { Some(Instant::now()) } else { self.asked };
        let work = async move {
            let images = if asks { measure::image_directory(&*context.runtime).await } else { known };
            let readings = blocking({
                let images = images.clone();
                move || measure::readings(&context.root, images.as_deref())
            })
            .await;
            (images, readings)
        };
        cx.spawn_then(work, |unit, (images, readings), cx| {
            unit.images = images;
            match readings {
                Some(readings) => unit.looked(readings, cx),
                None => tracing::warn!(root = %unit.context.root.display(), "it is not known how full the disk is"),
            }
            let next = if readings.is_some() { unit.outlook.next } else { pressure::LOOK };
            cx.after(next, Self::look);
        });
    }

    fn looked(&mut self, readings: Readings, cx: &mut UnitContext<'_, Self>) {
        let now = Instant::now();
        self.readings = readings;
        self.outlook = self.monitor.look(readings, now);
        if self.outlook.met.is_empty() {
            self.met_since = None;
        } else if self.met_since.is_none() {
            self.met_since = Some(now);
            self.tell_threshold();
        }
        self.context.disk_pressure.store(self.outlook.pressure, Ordering::Relaxed);
        self.written = self.written.saturating_add(self.outlook.taken);
        if self.outlook.taken > WRITTEN_TO_LOGS {
            self.units.logs.wake(LookAtLogs, cx.cause().clone());
        }
        if let Some(all) = self.is_due(now) {
            self.count(all, cx);
        }
        self.decide(true, cx);
        if let Some(last) = &mut self.last {
            last.gone = !self.context.paths(&last.uid).root().exists();
        }
    }

    fn tell_threshold(&self) {
        let resources: BTreeSet<String> = self.outlook.met.iter().map(|met| met.signal.resource().to_string()).collect();
        tracing::warn!(met = ?self.outlook.met, "a disk of this node is short of room");
        for resource in resources {
            self.context.events.node(&self.context.node_name, Note::warning("EvictionThresholdMet", format!("Attempting to reclaim {resource}")));
        }
    }

    /// Whether pods are to be counted now: all of them, or those with limits.
    fn is_due(&self, now: Instant) -> Option<bool> {
        let Some(round) = self.round else { return Some(false) };
        let since = now.saturating_duration_since(round.began);
        let wanted = self.written > WRITTEN || self.met_since.is_some_and(|met| round.began < met || !round.all);
        // One pod with very many files must not keep others from being counted.
        let pause = round.took.map_or(LONGEST_PAUSE, |took| (took * PAUSES).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        (since >= PERIOD || (wanted && since >= pause)).then_some(wanted || self.met_since.is_some())
    }

    fn count(&mut self, all: bool, cx: &mut UnitContext<'_, Self>) {
        self.written = 0;
        let began = Instant::now();
        self.round = Some(Round { began, open: 1, took: None, all });
        let context = self.context.clone();
        cx.spawn_then(async move { measure::running(&*context.runtime).await }, move |unit, running, cx| {
            let running = running.unwrap_or_else(|error| {
                tracing::warn!(%error, "layers of containers are not counted");
                BTreeMap::new()
            });
            unit.count_each(&running, began, cx);
            unit.closed(began, cx);
        });
    }

    fn count_each(&mut self, running: &BTreeMap<String, Vec<RunningContainer>>, began: Instant, cx: &mut UnitContext<'_, Self>) {
        let all = self.round.is_some_and(|round| round.all);
        let pods = self.active();
        let uids: BTreeSet<&String> = pods.iter().filter_map(|pod| pod.metadata.uid.as_ref()).collect();
        self.records.retain(|uid, _| uids.contains(uid));
        for pod in pods.iter().filter(|pod| all || limits::has_limits(pod)) {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let record = self.records.entry(uid.clone()).or_default();
            if record.counting.is_some() {
                continue;
            }
            let counting = Arc::new(Counting::of(&self.context, pod, running.get(&uid).map_or(&[], Vec::as_slice), self.images.as_deref()));
            record.counting = Some(counting.clone());
            if let Some(round) = &mut self.round {
                round.open += 1;
            }
            cx.spawn_then(async move { counting.run().await }, move |unit, (), cx| {
                if let Some(record) = unit.records.get_mut(&uid) {
                    record.counted(Instant::now());
                }
                unit.closed(began, cx);
            });
        }
    }

    /// One part of a round ended.
    fn closed(&mut self, began: Instant, cx: &mut UnitContext<'_, Self>) {
        if let Some(round) = self.round.as_mut().filter(|round| round.began == began) {
            round.open = round.open.saturating_sub(1);
            if round.open == 0 {
                round.took = Some(round.began.elapsed());
            }
        }
        self.decide(false, cx);
    }

    /// Pods that may take room.
    fn active(&mut self) -> Vec<Arc<Pod>> {
        let all = (self.all)().unwrap_or_default();
        let uids: BTreeSet<&str> = all.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.evicted.retain(|uid, at| uids.contains(uid.as_str()) && at.elapsed() < AGAIN);
        let is_active = |pod: &&Arc<Pod>| pod.metadata.uid.as_ref().is_some_and(|uid| !self.evicted.contains_key(uid)) && !is_finished(pod);
        all.iter().filter(is_active).cloned().collect()
    }

    /// Evicts who exceeds a limit and, if it was just `looked` what is free, who has to go for others' sake.
    fn decide(&mut self, looked: bool, cx: &mut UnitContext<'_, Self>) {
        let of_manifests: BTreeSet<PodIdentity> = self.manifests.pods().into_iter().flatten().map(|pod| PodIdentity::of(&pod)).collect();
        let pods = self.active();
        let pods: Vec<_> = pods.into_iter().filter(|pod| !rank::is_critical(pod) && !of_manifests.contains(&PodIdentity::of(pod))).collect();
        for pod in pods.iter().filter(|pod| limits::has_limits(pod)) {
            let used = pod.metadata.uid.as_ref().and_then(|uid| self.records.get(uid)?.used());
            if let Some(message) = used.and_then(|used| limits::exceeded(pod, &used, self.readings.images_apart())) {
                self.evict(pod, message, false, 0, cx);
            }
        }
        if self.outlook.met.first().is_some_and(|met| met.hard) {
            self.hurry(cx);
        }
        if let Some(met) = self.outlook.met.first().copied().filter(|_| looked && self.may_evict())
            && !self.makes_room(&met, cx)
        {
            self.reclaim(&pods, &met, cx);
        }
    }

    /// Whether it is known well enough who should go, and who went last has left.
    fn may_evict(&self) -> bool {
        let counted = self.round.filter(|round| round.all).zip(self.met_since).is_some_and(|(round, met)| {
            // A disk that is nearly full leaves no time for that, if it was done a moment ago.
            let known = self.outlook.urgent && round.took.is_some() && round.began.elapsed() < FRESH;
            known || (round.began >= met && (round.took.is_some() || round.began.elapsed() > PATIENCE))
        });
        // While its processes still die, it may be they who fill the disk.
        let died = |last: &Leaving| cgroups::processes_of_pod(&self.context.cgroup_parent, &last.uid).is_ok_and(|alive| alive.is_empty());
        let hurries = |last: &Leaving| {
            let since = last.since.elapsed();
            since > DEATH || (since > CLEANUP_WHEN_URGENT && died(last))
        };
        let left = self.last.as_ref().is_none_or(|last| {
            last.gone || last.since.elapsed() > CLEANUP + Duration::from_secs(last.grace) || (self.outlook.urgent && hurries(last))
        });
        counted && left
    }

    /// Evicts one pod for a threshold that is met.
    fn reclaim(&mut self, pods: &[Arc<Pod>], met: &Met, cx: &mut UnitContext<'_, Self>) {
        let place = match (self.readings.images_apart(), met.signal.is_of_images()) {
            (false, _) => Place::All,
            (true, true) => Place::Images,
            (true, false) => Place::Node,
        };
        let known: Vec<_> = pods
            .iter()
            .filter(|pod| pod.metadata.uid.as_ref().is_some_and(|uid| !self.evicted.contains_key(uid)))
            .map(|pod| {
                let record = pod.metadata.uid.as_ref().and_then(|uid| self.records.get(uid));
                (pod, record.and_then(Record::used), record.map_or(0, |record| record.growth))
            })
            .collect();
        let candidates = known.iter().map(|(pod, used, growth)| Candidate { pod, used: used.as_ref(), growth: *growth });
        let Some(first) = rank::first(candidates, met.signal.resource(), place, self.outlook.urgent) else { return };
        let (pod, message) = (Arc::new(first.pod.clone()), rank::message(first.pod, first.used, met));
        let grace = self.grace.of(&pod, met);
        self.last = Some(Leaving { uid: pod.metadata.uid.clone().unwrap_or_default(), since: Instant::now(), grace, gone: false });
        // The next one is chosen by what is there then.
        self.met_since = Some(Instant::now());
        self.evict(&pod, message, true, grace, cx);
    }

    fn evict(&mut self, pod: &Arc<Pod>, message: String, disruption: bool, grace: u64, cx: &mut UnitContext<'_, Self>) {
        let id = PodIdentity::of(pod);
        if self.evicted.insert(id.uid.clone(), Instant::now()).is_some() {
            return;
        }
        tracing::warn!(pod = %format_args!("{}/{}", id.namespace, id.name), message, "evict");
        self.evictions += 1;
        let uid = id.uid.clone();
        // Its worker knows before its containers end, so that it starts none anew.
        self.units.pods.wake(Evict { id, message, disruption, grace }, cx.cause().clone());
        if grace == 0 {
            self.kill(uid, cx);
        }
    }

    /// Whom a soft threshold granted time has none any more.
    fn hurry(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(last) = self.last.as_mut().filter(|last| last.grace > 0 && !last.gone) else { return };
        (last.grace, last.since) = (0, Instant::now());
        let id = PodIdentity { uid: last.uid.clone(), ..PodIdentity::default() };
        tracing::warn!(uid = id.uid, "an evicted pod has no more time to end");
        let uid = id.uid.clone();
        // It was told why.
        self.units.pods.wake(Evict { id, message: String::new(), disruption: true, grace: 0 }, cx.cause().clone());
        self.kill(uid, cx);
    }

    /// Kills a pod's processes without the runtime, which may be slow.
    fn kill(&self, uid: String, cx: &mut UnitContext<'_, Self>) {
        let parent = self.context.cgroup_parent.clone();
        cx.spawn(async move {
            for _ in 0..KILLS {
                let (parent, uid) = (parent.clone(), uid.clone());
                match blocking(move || cgroups::kill_pod(&parent, &uid)).await {
                    Ok(true) => tokio::time::sleep(BETWEEN_KILLS).await,
                    Ok(false) => return,
                    Err(error) => return tracing::warn!(%error, "processes of an evicted pod not killed, the runtime will"),
                }
            }
        });
    }
}

impl Unit for Eviction {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
    }

    fn observe(&self) -> Value {
        let met: Vec<&str> = self.outlook.met.iter().map(|met| met.signal.name()).collect();
        let took = self.round.and_then(|round| round.took).map(|took| took.as_secs_f64());
        json!({"pressure": self.outlook.pressure, "met": met, "urgent": self.outlook.urgent, "counted": self.records.len(),
            "countingTook": took, "evictions": self.evictions})
    }
}

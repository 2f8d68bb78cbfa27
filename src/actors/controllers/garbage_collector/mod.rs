//! Garbage collector: deletes what lost its owners, and sees foreground and orphaning deletions through.
//!
//! In: the metadata of every listable resource, by watches of its own. Out: deletes and patches of owner references and
//! finalizers. The [`graph`] says which objects deserve a look; a look reads the object and its owners live
//! (`owners`, `apply`) and [`plan`] decides. Nothing is looked at before all resources were listed once.

mod apply;
pub mod graph;
mod model;
mod monitor;
mod owners;
#[cfg(test)]
mod owners_tests;
pub mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::Message;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, GroupResource, Uid},
    resources::{Registry, Resource},
    status::Status,
};
use troupe_api_client::Client;

use self::{
    apply::Looked,
    graph::{Graph, Node, Work},
    model::{Absence, Item, absence},
    monitor::{Change, Intake, Monitor, News, is_awaited, is_followed},
    owners::Collector,
    plan::Dependent,
};
use crate::runtime::{
    cache::Lags,
    envelope::Reply,
    events::EventRecorder,
    freshness::Freshness,
    host::{On, Unit, UnitAddr, UnitContext},
    queue::{KeyQueue, QueueMetrics, QueuePolicy, Verdict},
    resume::still_follows,
    system::{System, TaskHandle},
    turn::{Turn, give_way},
    unit::Policy,
};

/// Objects looked at at once, as upstream.
const CONCURRENCY: usize = 20;
/// What linking an object to an owner counts for in a turn.
const OWNER: usize = 64;
/// How often new and removed resources are looked for.
const DISCOVERY: Duration = Duration::from_secs(5);

/// How long a server that does not answer is waited for, as upstream.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the collector as `controllers/garbage-collector`; it reads and deletes through `client`.
pub fn start(system: &System, client: &Client) -> UnitAddr<GarbageCollector> {
    start_with(system, client, CONCURRENCY)
}

/// The same where so many objects are looked at at once.
pub fn start_with(system: &System, client: &Client, concurrency: usize) -> UnitAddr<GarbageCollector> {
    let client = client.clone();
    system.spawn("controllers/garbage-collector", Policy::default(), move |_| GarbageCollector::new(client.clone(), concurrency))
}

/// Take the news and look at what deserves it. Idempotent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

struct Watched {
    synced: Arc<AtomicBool>,
    /// Others wait for it.
    awaited: bool,
    resource: Arc<Resource>,
    _task: TaskHandle,
}

/// See the module.
pub struct GarbageCollector {
    client: Client,
    /// Objects that are looked at at once.
    concurrency: usize,
    graph: Graph,
    queue: KeyQueue<Work>,
    intake: Arc<Intake>,
    /// News that were taken and wait for their turn.
    unread: News,
    /// It will take in more of them in a moment.
    goes_on: bool,
    watched: BTreeMap<GroupResource, Watched>,
    /// Looks how far the watches are behind, from the first one on.
    lags: Option<Lags>,
    /// The table whose resources are watched.
    registry: Option<Arc<Registry>>,
    events: Option<EventRecorder>,
    alarm: Option<Instant>,
    looked: u64,
    failed: u64,
    last_error: Option<String>,
}

impl GarbageCollector {
    fn new(client: Client, concurrency: usize) -> Self {
        GarbageCollector {
            client,
            concurrency,
            graph: Graph::default(),
            queue: KeyQueue::new(QueuePolicy::default()).measured(QueueMetrics::of("garbage_collector")),
            intake: Arc::default(),
            unread: News::default(),
            goes_on: false,
            watched: BTreeMap::new(),
            lags: None,
            registry: None,
            events: None,
            alarm: None,
            looked: 0,
            failed: 0,
            last_error: None,
        }
    }

    /// Follows the resources that are served now, and no others.
    fn discover(&mut self, cx: &mut UnitContext<'_, Self>) {
        let registry = self.client.service().registry();
        if self.registry.as_ref().is_some_and(|known| Arc::ptr_eq(known, &registry)) {
            return;
        }
        let rows: BTreeMap<_, _> = registry.reachable().filter(|row| is_followed(row)).map(|row| (row.group_resource(), row.clone())).collect();
        self.watched.retain(|name, watched| rows.get(name).is_some_and(|now| still_follows(&watched.resource, now)));
        for (name, resource) in rows {
            if self.watched.contains_key(&name) {
                continue;
            }
            let address = cx.address();
            let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || address.wake(Wake, Cause::default()));
            let synced = Arc::new(AtomicBool::new(false));
            let awaited = is_awaited(&resource, self.registry.is_none());
            if resource.is_elsewhere && awaited {
                let name = name.clone();
                cx.after(PATIENCE, move |unit, cx| {
                    unit.watched.entry(name).and_modify(|watched| watched.awaited = false);
                    unit.pump(cx);
                });
            }
            let path = format!("garbage-collector/{name}");
            let freshness = Freshness::new(path.as_str());
            self.lags.get_or_insert_with(|| Lags::new(cx.system(), &self.client)).follow(&freshness, name.clone());
            let (client, followed, intake) = (self.client.clone(), resource.clone(), self.intake.clone());
            let monitor = Arc::new(Monitor { client, resource: followed, intake, synced: synced.clone(), wake, freshness });
            let task = cx.system().spawn_task(&path, move || monitor.clone().run());
            self.watched.insert(name, Watched { synced, awaited, resource, _task: task });
        }
        self.registry = Some(registry);
    }

    /// Whether enough was seen to decide. Whoever owns something is asked for before anything is deleted, so a server that does not
    /// answer holds up what belongs to its objects, and nothing else.
    fn is_synced(&self) -> bool {
        let is_there = |watched: &Watched| watched.synced.load(Relaxed) || !watched.awaited;
        !self.watched.is_empty() && self.watched.values().all(is_there)
    }

    /// Takes news in until the turn is over; `true` when none is left.
    fn take_in(&mut self) -> bool {
        if self.unread.is_empty() {
            self.unread = self.intake.take();
        }
        let mut turn = Turn::default();
        while let Some(((api_version, kind), listed)) = self.unread.listed.pop_first() {
            let known = self.graph.observed_of(&api_version, &kind);
            for uid in known.into_iter().filter(|uid| !listed.contains(uid)) {
                let work = self.graph.forget(&uid);
                self.want(work, &Cause::default());
            }
        }
        while let Some((uid, (change, cause))) = self.unread.changes.pop_first() {
            let owners = if let Change::Seen(seen) = &change { seen.owners.len() } else { 0 };
            let work = match change {
                Change::Seen(seen) => self.graph.observe(seen),
                Change::Gone => self.graph.forget(&uid),
            };
            self.want(work, &cause);
            if turn.count_bytes(owners * OWNER) {
                break;
            }
        }
        self.unread.is_empty()
    }

    fn want(&mut self, work: Vec<Work>, cause: &Cause) {
        for work in work {
            match work {
                Work::Report { dependent, owner } => self.report(&dependent, &owner),
                work => self.queue.add(work, cause.clone()),
            }
        }
    }

    /// Tells people that an owner reference leads into another namespace.
    fn report(&self, dependent: &Uid, owner: &Uid) {
        let (Some(events), Some(node)) = (&self.events, self.graph.node(dependent)) else { return };
        let Some(reference) = node.owners.iter().find(|reference| reference.uid == owner.0) else { return };
        let namespace = &node.place.key.namespace;
        let named = format!("[{}/{}, namespace: {namespace}, name: {}, uid: {owner}]", reference.api_version, reference.kind, reference.name);
        let about = ObjectReference {
            api_version: Some(node.place.api_version.to_string()),
            kind: Some(node.place.kind.to_string()),
            name: Some(node.place.key.name.to_string()),
            namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
            uid: Some(dependent.to_string()),
            ..ObjectReference::default()
        };
        events.warning(&about, "OwnerRefInvalidNamespace", format!("ownerRef {named} does not exist in namespace {:?}", &**namespace));
    }

    fn pump(&mut self, cx: &mut UnitContext<'_, Self>) {
        // What the lead was for is others' work once it is lost.
        if self.client.service().has_ended() {
            return;
        }
        if self.goes_on {
            return;
        }
        if !self.take_in() {
            self.goes_on = true;
            return cx.spawn_then(give_way(), |unit, (), cx| {
                unit.goes_on = false;
                unit.pump(cx);
            });
        }
        if !self.is_synced() {
            return;
        }
        let now = cx.system().instant();
        while self.queue.in_flight() < self.concurrency {
            let Some((work, cause)) = self.queue.next(now) else { break };
            self.look(work, cause, cx);
        }
        // Who waits for a place is looked at when one is free.
        let Some(due) = self.queue.next_due().filter(|_| self.queue.in_flight() < self.concurrency) else { return };
        if self.alarm.is_none_or(|alarm| alarm > due || alarm <= now) {
            self.alarm = Some(due);
            cx.after(due.saturating_duration_since(now), |unit, cx| {
                unit.alarm = None;
                unit.pump(cx);
            });
        }
    }

    fn item(&self, uid: &Uid) -> Option<Item> {
        let Node { place, owners, deletion, .. } = self.graph.node(uid)?;
        let namespace = &place.key.namespace;
        let beliefs = owners.iter().filter_map(|owner| Some((absence(owner, &place.key), self.graph.belief(owner, namespace)?)));
        let dependents = self.graph.dependents(uid).into_iter().map(|(uid, node, reference)| {
            let blocking = reference.block_owner_deletion;
            (Dependent { uid, blocking, deletion: node.deletion }, node.place.clone())
        });
        let (dependents, beliefs) = (dependents.collect(), beliefs.collect());
        Some(Item { uid: uid.clone(), place: place.clone(), deletion: *deletion, dependents, beliefs })
    }

    fn look(&mut self, work: Work, cause: Cause, cx: &mut UnitContext<'_, Self>) {
        let (Work::Collect(uid) | Work::Orphan(uid) | Work::Report { dependent: uid, .. }) = &work;
        let Some(item) = self.item(uid) else {
            // It went while it waited.
            self.queue.done(&work, Verdict::Done, cx.system().instant());
            return;
        };
        let (step, wrote) = (cx.begin_step(&cause), Arc::<AtomicBool>::default());
        let collector = Collector { client: self.client.caused_by(step.next.clone()).noting_writes(wrote.clone()) };
        let orphan = matches!(work, Work::Orphan(_));
        let looking = async move {
            let mut absent = Vec::new();
            let result = if orphan { collector.orphan(item).await } else { collector.collect(item, &mut absent).await };
            (result, absent)
        };
        cx.spawn_then(looking, move |unit, (result, absent), cx| {
            cx.end_step("Collect", &step, wrote.load(Relaxed));
            unit.looked(work, result, absent, cx);
        });
    }

    fn looked(&mut self, work: Work, result: Result<Looked, Status>, absent: Vec<Absence>, cx: &mut UnitContext<'_, Self>) {
        if self.client.service().has_ended() {
            return;
        }
        self.looked += 1;
        for (uid, place) in absent {
            self.graph.note_absent(&uid, place);
        }
        let cause = cx.cause().clone();
        let verdict = match result {
            Ok(Looked::Done(more)) => {
                self.want(more, &cause);
                Verdict::Done
            }
            // Again behind the others; what was found absent is not looked for then.
            Ok(Looked::Unfinished) => Verdict::RequeueAfter(Duration::ZERO),
            Ok(Looked::Gone) => {
                let (Work::Collect(uid) | Work::Orphan(uid) | Work::Report { dependent: uid, .. }) = &work;
                let more = self.graph.forget(uid);
                self.want(more, &cause);
                Verdict::Done
            }
            Err(status) => {
                tracing::debug!(?work, error = %status, "will look again");
                self.failed += 1;
                self.last_error = Some(status.message);
                Verdict::Failed
            }
        };
        self.queue.done(&work, verdict, cx.system().instant());
        self.pump(cx);
    }
}

impl Unit for GarbageCollector {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.events = Some(EventRecorder::new(cx.system(), &self.client, "garbage-collector-controller"));
        self.discover(cx);
        cx.every(DISCOVERY, |unit, cx| {
            unit.discover(cx);
            unit.pump(cx);
        });
    }

    fn observe(&self) -> Value {
        json!({
            "synced": self.is_synced(),
            "objects": self.graph.len(),
            "resources": self.watched.len(),
            "ready": self.queue.ready(),
            "delayed": self.queue.delayed(),
            "inFlight": self.queue.in_flight(),
            "looked": self.looked,
            "failed": self.failed,
            "lastError": self.last_error,
        })
    }
}

impl On<Wake> for GarbageCollector {
    fn on(&mut self, _wake: Wake, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.pump(cx);
        Reply::Now(())
    }
}

//! The unit that runs a controller.

use std::{
    any::Any,
    cell::RefCell,
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix::Message;
use futures::FutureExt;
use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, ObjectKey},
    status::Status,
};
use troupe_api_client::{Client, LostReplies};

use super::{
    AnyController, Backoff, Outcome, ReconcileContext, ReconcileError, Watches,
    lost_replies::{self, ReadCache},
    watches::{Inbox, Primary},
};
use crate::runtime::{
    cache::Caches,
    chaos::die_if,
    envelope::Reply,
    events::{self, EventRecorder},
    fingerprint::Fingerprint,
    host::{On, Unit, UnitContext},
    panics::panic_text,
    queue::{KeyQueue, QueueMetrics, QueuePolicy, Verdict},
    recorder::{Hop, Outcome as HopOutcome},
    system::System,
    work::{self, Attempt},
};

/// Keys are looked at again once in this time although nothing woke them, so that no wake that somebody missed matters for ever.
const RESYNC: Duration = Duration::from_secs(600);
/// Not all at once, but in so many parts.
const RESYNC_PARTS: u32 = 20;

/// A key that the API server held back is tried again no sooner than this.
const HELD_BACK: Duration = Duration::from_secs(5);

/// A key that backs off is tried again after this where its object is not what it was: whoever corrects it need not wait. The same after an
/// attempt during which somebody wrote; doubled with each in a row, since it may have been the attempt itself.
const CORRECTED: Duration = Duration::from_millis(100);

/// Take the inbox and start what can run. Idempotent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// What is known of a key that fails.
#[derive(Default)]
struct Suspect {
    /// What its object was at the last attempt, or at its end: with what the attempt itself wrote.
    tried: Option<Fingerprint>,
    error: String,
    /// Attempts in a row that ended since somebody else wrote meanwhile, and those during which the object changed, maybe by themselves.
    conflicts: u32,
    changes: u32,
}

/// A controller with its queue.
pub struct ControllerUnit {
    controller: Arc<dyn AnyController>,
    name: &'static str,
    concurrency: usize,
    caches: Caches,
    client: Client,
    inbox: Arc<Inbox>,
    queue: KeyQueue<ObjectKey>,
    subscriptions: Vec<Box<dyn Any>>,
    primary: Option<Primary>,
    /// What the controller reads.
    read: Arc<[ReadCache]>,
    /// The part of the keys that is looked at again next.
    next_part: u32,
    /// The keys that fail at present.
    suspects: BTreeMap<ObjectKey, Suspect>,
    event_source: String,
    events: Option<EventRecorder>,
    synced: bool,
    alarm: Option<Instant>,
    done: u64,
    failed: u64,
    last_error: Option<String>,
}

impl ControllerUnit {
    pub(super) fn new(controller: Arc<dyn AnyController>, name: &'static str, concurrency: usize, caches: Caches, client: Client) -> Self {
        ControllerUnit {
            controller,
            name,
            concurrency,
            caches,
            client,
            inbox: Arc::default(),
            queue: KeyQueue::new(QueuePolicy::default()).measured(QueueMetrics::of(name)),
            subscriptions: Vec::new(),
            primary: None,
            read: Arc::default(),
            next_part: 0,
            suspects: BTreeMap::new(),
            event_source: name.to_owned(),
            events: None,
            synced: false,
            alarm: None,
            done: 0,
            failed: 0,
            last_error: None,
        }
    }

    /// The same with this source of its events.
    pub(super) fn telling_as(self, event_source: String) -> Self {
        ControllerUnit { event_source, ..self }
    }

    /// The same where keys that fail wait so long.
    pub(super) fn backing_off(self, backoff: Backoff) -> Self {
        let policy = QueuePolicy::backing_off(backoff.first, backoff.longest);
        ControllerUnit { queue: KeyQueue::new(policy).measured(QueueMetrics::of(self.name)), ..self }
    }

    /// Starts keys up to the limit, and arms the alarm for the next delayed one.
    fn pump(&mut self, cx: &mut UnitContext<'_, Self>) {
        // What the lead was for is others' work once it is lost.
        if !self.synced || self.client.service().has_ended() {
            return;
        }
        let now = cx.system().instant();
        while self.queue.in_flight() < self.concurrency {
            let Some((key, cause)) = self.queue.next(now) else { break };
            self.run(key, cause, cx);
        }
        // Who waits for a place is looked at when one is free; what is due by then would let the alarm ring without end.
        if self.queue.in_flight() < self.concurrency {
            self.arm(now, cx);
        }
    }

    /// Wants the keys of the next part looked at again.
    fn resync(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(primary) = self.primary.as_ref().filter(|_| self.synced) else { return };
        let part = self.next_part;
        self.next_part = (part + 1) % RESYNC_PARTS;
        for key in primary.again(part.into(), RESYNC_PARTS.into()) {
            self.queue.add(key, Cause::default());
        }
        self.pump(cx);
    }

    fn arm(&mut self, now: Instant, cx: &mut UnitContext<'_, Self>) {
        let Some(due) = self.queue.next_due() else { return };
        if self.alarm.is_some_and(|alarm| alarm <= due && alarm > now) {
            return;
        }
        self.alarm = Some(due);
        cx.after(due.saturating_duration_since(now), |unit, cx| {
            unit.alarm = None;
            unit.pump(cx);
        });
    }

    fn run(&mut self, key: ObjectKey, cause: Cause, cx: &mut UnitContext<'_, Self>) {
        let next = cx.system().next_cause(&cause);
        let cause = Cause { trace: next.trace, ..cause };
        let span = next.span;
        let events = self.events.clone().expect("set when the unit started");
        let wrote: Arc<AtomicBool> = Arc::default();
        let (lost, read) = (LostReplies::default(), self.read.clone());
        let client = self.client.caused_by(next).noting_writes(wrote.clone()).noting_lost_replies(lost.clone());
        let context = ReconcileContext { client, system: cx.system().clone(), events, writes: RefCell::default() };
        let (controller, name) = (self.controller.clone(), self.name);
        let (system, path) = (cx.system().clone(), cx.path().clone());
        let work_key = key.clone();
        let ended = self.client.service().ended();
        let version = self.primary.as_ref().and_then(|primary| primary.version(&key));
        let poisoned = cx.is_poisoned(&key);
        if self.queue.failures(&key) > 0 {
            let tried = self.fingerprint(&key);
            self.suspects.entry(key.clone()).or_default().tried = tried;
        }
        let work = async move {
            let begun = system.instant();
            let reconcile = async {
                die_if(poisoned);
                let reconcile = controller.reconcile(&work_key, &context);
                let reconcile = async {
                    tokio::select! {
                        biased;
                        // Dropped wherever it is.
                        () = ended => Ok(Outcome::Done),
                        outcome = reconcile => outcome,
                    }
                };
                match version {
                    Some(version) => work::noted(system.work(), &Attempt { unit: name, key: &work_key, version }, Box::pin(reconcile)).await,
                    None => reconcile.await,
                }
            };
            let result = AssertUnwindSafe(reconcile).catch_unwind().await;
            // Until the caches show what was written, planning again would act on old news.
            if !context.settle().await {
                tracing::warn!(controller = name, key = %work_key, "a cache does not show a write in time");
            }
            let unknown = lost.take();
            if !unknown.is_empty() {
                tracing::info!(controller = name, key = %work_key, "writes had no reply, waiting for what they did");
                lost_replies::shown(&context.client, &unknown, &read).await;
            }
            let outcome = match &result {
                Ok(Ok(_)) => HopOutcome::Done,
                Ok(Err(_)) => HopOutcome::Failed,
                Err(_) => HopOutcome::Panicked,
            };
            let recorder = system.recorder();
            let hop = Hop {
                from: recorder.origin(&cause),
                to: recorder.intern(&path),
                message: recorder.intern("Reconcile"),
                waited: Duration::ZERO,
                handled: system.instant().saturating_duration_since(begun),
                outcome,
                cause,
                span,
                produced: None,
                at: begun,
            };
            // What led to a write is remembered as long as that.
            if wrote.load(Relaxed) {
                recorder.keep(hop)
            } else {
                recorder.hop(hop)
            }
            result.map_err(|panic| panic_text(panic.as_ref()))
        };
        cx.spawn_then(work, move |unit, result, cx| {
            if unit.client.service().has_ended() {
                return;
            }
            let verdict = match result {
                Ok(Ok(Outcome::Done)) => Verdict::Done,
                Ok(Ok(Outcome::RequeueAfter(delay))) => Verdict::RequeueAfter(delay),
                Ok(Ok(Outcome::Rest { least, again_after })) => Verdict::Rest { least, again_after },
                // Somebody else wrote meanwhile: plan again from what the cache shows next.
                Ok(Err(ReconcileError::Api(status))) if status.is_conflict() => {
                    tracing::debug!(controller = unit.name, %key, "conflict, will plan again");
                    unit.suspects.entry(key.clone()).or_default().conflicts += 1;
                    Verdict::Failed
                }
                // The API server has no room for more now: that is nobody's fault.
                Ok(Err(ReconcileError::Api(status))) if status.code == 429 => {
                    tracing::debug!(controller = unit.name, %key, %status, "held back, will plan again");
                    Verdict::RequeueAfter(retry_after(&status))
                }
                Ok(Err(error)) => {
                    unit.note_failure(&key, error.to_string(), "reconcile failed");
                    Verdict::Failed
                }
                Err(panic) => {
                    unit.note_failure(&key, panic, "reconcile panicked");
                    Verdict::Panicked
                }
            };
            unit.finish(key, verdict, cx);
        });
    }

    fn note_failure(&mut self, key: &ObjectKey, error: String, what: &str) {
        tracing::warn!(controller = self.name, %key, error, "{what}, will retry");
        self.failed += 1;
        self.last_error = Some(format!("{key}: {error}"));
        let suspect = self.suspects.entry(key.clone()).or_default();
        (suspect.error, suspect.conflicts) = (error, 0);
    }

    fn finish(&mut self, key: ObjectKey, verdict: Verdict, cx: &mut UnitContext<'_, Self>) {
        self.done += 1;
        if matches!(verdict, Verdict::Done | Verdict::RequeueAfter(_) | Verdict::Rest { .. }) && cx.system().work().has_suspects() {
            cx.system().work().forget(self.name, &key);
        }
        if self.queue.done(&key, verdict, cx.system().instant()) {
            self.announce_quarantine(&key);
        }
        if self.queue.failures(&key) == 0 {
            self.suspects.remove(&key);
        }
        self.hurry_after_attempt(&key, cx.system().instant());
        self.pump(cx);
    }

    fn fingerprint(&self, key: &ObjectKey) -> Option<Fingerprint> {
        self.primary.as_ref().and_then(|primary| primary.fingerprint(key))
    }

    /// Leaves a key alone in whose hands the processes before this one died.
    fn set_aside_if_deadly(&mut self, key: &ObjectKey, system: &System) {
        let record = system.work();
        if !record.has_suspects() || self.queue.is_quarantined(key) {
            return;
        }
        let Some(version) = self.primary.as_ref().and_then(|primary| primary.version(key)) else { return };
        let deaths = record.deaths(&Attempt { unit: self.name, key, version });
        if deaths < work::DEATHS {
            return;
        }
        let error = work::death_message(self.name, deaths);
        tracing::error!(controller = self.name, %key, error, "set aside");
        self.suspects.insert(key.clone(), Suspect { tried: self.fingerprint(key), error: error.clone(), ..Suspect::default() });
        self.queue.set_aside(key.clone());
        if let (Some(events), Some(primary)) = (&self.events, &self.primary) {
            events.warning(&primary.reference(key), events::QUARANTINED, error);
        }
    }

    /// Gives a quarantined key another chance if its object is not what it was at the last attempt.
    fn release_if_changed(&mut self, key: &ObjectKey, system: &System) {
        let changed = || self.suspects.get(key).is_none_or(|suspect| suspect.tried != self.fingerprint(key));
        if self.queue.is_quarantined(key) && self.primary.is_some() && changed() {
            tracing::info!(controller = self.name, %key, "changed, out of quarantine");
            self.queue.release(key);
            system.work().forget(self.name, key);
        }
    }

    /// Does not let a key wait long for its next attempt whose object is not what it was at the last one.
    fn hurry_if_changed(&mut self, key: &ObjectKey, now: Instant) {
        let at = now + CORRECTED;
        if !self.queue.backs_off_beyond(key, at) {
            return;
        }
        let tried = self.suspects.get(key).and_then(|suspect| suspect.tried);
        if tried.is_some() && tried != self.fingerprint(key) {
            self.queue.hurry(key, at);
        }
    }

    /// Does not let a key wait long after an attempt that failed since somebody wrote meanwhile, or during which its object changed. What the
    /// attempt itself wrote is no correction: where each writes, the pauses are doubled all the same.
    fn hurry_after_attempt(&mut self, key: &ObjectKey, now: Instant) {
        if !self.queue.backs_off_beyond(key, now + CORRECTED) {
            return;
        }
        let fingerprint = self.fingerprint(key);
        let Some(suspect) = self.suspects.get_mut(key) else { return };
        let changed = suspect.tried.is_some() && suspect.tried != fingerprint;
        suspect.changes = if changed { suspect.changes + 1 } else { 0 };
        suspect.tried = fingerprint;
        if let Some(again) = suspect.conflicts.max(suspect.changes).checked_sub(1) {
            self.queue.hurry(key, now + CORRECTED.saturating_mul(1 << again.min(16)));
        }
    }

    /// The keys in quarantine, and why.
    fn quarantined(&self) -> BTreeMap<String, &str> {
        let keys = self.queue.quarantined().into_iter();
        keys.map(|key| (key.to_string(), self.suspects.get(key).map_or("", |suspect| suspect.error.as_str()))).collect()
    }

    fn announce_quarantine(&self, key: &ObjectKey) {
        tracing::error!(controller = self.name, %key, "quarantined, retried slowly from now on");
        let (Some(events), Some(primary)) = (&self.events, &self.primary) else { return };
        let why = self.suspects.get(key).map_or("", |suspect| suspect.error.as_str());
        events.warning(&primary.reference(key), events::QUARANTINED, events::quarantine_message(self.name, why));
    }
}

/// When a server that is too busy wants to be asked again.
fn retry_after(status: &Status) -> Duration {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(seconds.max(1).into()).max(HELD_BACK)
}

impl Unit for ControllerUnit {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.events = Some(EventRecorder::new(cx.system(), &self.client, &self.event_source));
        let address = cx.address();
        let mut watches = Watches {
            caches: &self.caches,
            inbox: self.inbox.clone(),
            wake: Arc::new(move || address.wake(Wake, Cause::default())),
            subscriptions: Vec::new(),
            synced: Vec::new(),
            read: Vec::new(),
            primary: None,
        };
        self.controller.watches(&mut watches);
        let synced = std::mem::take(&mut watches.synced);
        self.primary = watches.primary;
        self.read = std::mem::take(&mut watches.read).into();
        self.subscriptions = watches.subscriptions;
        let synced = async move {
            // One after the other, so that one turn at a time is taken.
            for cache in synced {
                cache.await;
            }
        };
        cx.spawn_then(synced, |unit, (), cx| {
            unit.synced = true;
            unit.pump(cx);
        });
        cx.every(RESYNC / RESYNC_PARTS, |unit, cx| unit.resync(cx));
    }

    fn observe(&self) -> Value {
        json!({
            "synced": self.synced,
            "ready": self.queue.ready(),
            "delayed": self.queue.delayed(),
            "inFlight": self.queue.in_flight(),
            "kind": self.primary.as_ref().map(|primary| primary.kind),
            "quarantined": self.quarantined(),
            "reconciled": self.done,
            "failed": self.failed,
            "lastError": self.last_error,
        })
    }
}

impl On<Wake> for ControllerUnit {
    fn on(&mut self, _wake: Wake, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        for (key, cause) in self.inbox.take() {
            self.release_if_changed(&key, cx.system());
            self.set_aside_if_deadly(&key, cx.system());
            self.hurry_if_changed(&key, cx.system().instant());
            self.queue.add(key, cause);
        }
        self.pump(cx);
        Reply::Now(())
    }
}

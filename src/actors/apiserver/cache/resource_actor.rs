//! The actor of one resource: applies changes in order and keeps history. The only writer of its cache.
//!
//! In: [`Apply`] and [`Tick`] from the store feed, [`Subscribe`] from watches, [`Announce`] from writers. Out: a new snapshot, which writes
//! wait for, and the same changes for its [`Watchers`], a unit that is started with the first watch. When it starts (again), its state comes
//! from the store.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use troupe_api::{
    meta::{Cause, Clock, ObjectKey, ObjectVersion, Revision},
    resources::{Feature, Resource},
    stored::StoredObject,
};
use troupe_api_server::{
    encryption,
    store::{KeyValue, RangeRequest, Store, StoreError, StoreEvent, keys, prefix_end},
};

use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitAddr, UnitContext},
    placement::ArbiterGroup,
    turn::Turn,
    unit::Policy,
};

use super::{
    Change, History, ResourceCache, Sequence, Snapshot,
    messages::{Announce, Apply, Backlog, Begin, NoSubscription, Start, Subscribe, Subscription, Tick, Withdraw},
    metrics::CacheCounts,
    queue::queue,
    ticks::{self, QUIET},
    watchers::{Moment, News, Told, Watcher, Watchers},
};

/// Batches of changes that may wait for the actor; more make it load everything again.
const MAILBOX: usize = 4096;
const RETRY_LOAD: Duration = Duration::from_millis(200);

/// What all resource actors share.
#[derive(Clone)]
pub struct CacheContext {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// How far the store's watch has been routed.
    pub dispatched: Arc<Sequence>,
    /// History a resource may keep, in bytes.
    pub history_bytes: usize,
    pub history_for: Duration,
}

/// The actor of one resource.
pub struct ResourceActor {
    cache: Arc<ResourceCache>,
    context: CacheContext,
    history: History,
    watchers: Option<UnitAddr<Watchers>>,
    /// Watchers could not be told something: their watches end before they are told anything else.
    missed: bool,
    /// When the last of those watches ends of which that is known.
    last_end: Option<Instant>,
    /// There was a watch that wants to know how far it is soon after each change.
    tells_progress: bool,
    /// Changes up to this revision came with the load.
    loaded_at: Revision,
    /// The newest change of the resource that is known. What was loaded says nothing of the last that took something away.
    changed: Revision,
    announced: HashMap<Bytes, Vec<(Bytes, Cause)>>,
    /// Changes that arrive while the cache is being loaded.
    waiting: Option<Vec<StoreEvent>>,
    /// Loading has not begun.
    is_held: bool,
    /// `resource.group`, for causes.
    name: Arc<str>,
    counts: CacheCounts,
}

impl ResourceActor {
    pub fn new(cache: Arc<ResourceCache>, context: CacheContext) -> Self {
        let history = History::of(&cache.resource, Revision::ZERO, context.history_bytes, context.history_for);
        let name = cache.resource.group_resource().to_string().into();
        let counts = CacheCounts::of(&cache.resource);
        ResourceActor {
            cache,
            context,
            history,
            watchers: None,
            missed: false,
            last_end: None,
            tells_progress: false,
            loaded_at: Revision::ZERO,
            changed: Revision::ZERO,
            announced: HashMap::new(),
            waiting: None,
            is_held: false,
            name,
            counts,
        }
    }

    /// Its state comes from the store, so restarts are cheap to allow.
    pub fn policy(resource: &Resource) -> Policy {
        // Who renews waits for this cache.
        let group = if resource.has(Feature::Renewals) { ArbiterGroup::Leases } else { ArbiterGroup::Serving };
        Policy { mailbox: MAILBOX, intensity: 20, max_backoff: Duration::from_secs(1), group, ..Policy::default() }
    }

    /// Loads the resource. Changes wait meanwhile, so that none is applied to a half-loaded cache.
    fn load(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.waiting.is_some() {
            return;
        }
        self.waiting = Some(Vec::new());
        self.load_now(cx);
    }

    fn load_now(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (store, cache) = (self.context.store.clone(), self.cache.clone());
        let loading = async move {
            loop {
                match range_all(&*store, &cache.resource).await {
                    Ok(loaded) => return loaded,
                    Err(error) => {
                        tracing::warn!(resource = ?cache.resource, %error, "cannot load the resource, will retry");
                        tokio::time::sleep(RETRY_LOAD).await;
                    }
                }
            }
        };
        cx.spawn_then(loading, |actor, loaded, cx| {
            // A change missed meanwhile may be in what was loaded, or not.
            if actor.cache.stale.swap(false, Ordering::SeqCst) {
                actor.load_now(cx);
            } else {
                actor.loaded(loaded);
            }
        });
    }

    /// Loads again what has missed a change, before anything later is applied to it.
    fn load_if_stale(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.waiting.is_none() && self.cache.stale.swap(false, Ordering::SeqCst) {
            tracing::warn!(resource = ?self.cache.resource, "fell behind the store, loading again");
            self.load(cx);
        }
    }

    fn loaded(&mut self, loaded: Loaded) {
        let Loaded { mut snapshot, changed } = loaded;
        let revision = snapshot.revision;
        snapshot.keep_unreadable(&self.cache.load());
        self.loaded_at = revision;
        self.changed = self.changed.max(changed);
        self.begin_anew(revision);
        self.cache.publish(snapshot);
        self.cache.applied.advance(revision);
        self.cache.loaded.advance(Revision(1));
        if let Some(events) = self.waiting.take()
            && !events.is_empty()
        {
            self.apply(events);
        }
    }

    /// Whoever watched before lists again: changes up to a revision may have been missed.
    fn begin_anew(&mut self, revision: Revision) {
        self.history = History::of(&self.cache.resource, revision, self.context.history_bytes, self.context.history_for);
        self.missed = true;
        self.tell(News::Changes(Vec::new()));
    }

    fn apply(&mut self, events: Vec<StoreEvent>) {
        if let Some(waiting) = &mut self.waiting {
            waiting.extend(events);
            return;
        }
        let mut snapshot = (*self.cache.load()).clone();
        // A feed that starts anew may repeat what was applied. Several changes may share a revision.
        let known = self.loaded_at.max(snapshot.revision);
        let mut changes = Vec::with_capacity(events.len());
        let (mut last, mut is_unreadable) = (None, false);
        for event in events {
            last = Some(event.revision());
            let cause = self.take_cause(&event);
            if event.revision() > known {
                is_unreadable |= is_sealed(&event);
                changes.extend(self.apply_one(&mut snapshot, event, cause));
            }
        }
        self.cache.publish(snapshot);
        self.changed = changes.last().map_or(self.changed, |change| change.revision);
        if is_unreadable {
            // They are told that it cannot be read when they list again: nobody may take it for gone.
            self.begin_anew(last.unwrap_or(known));
            changes.clear();
        }
        let now = self.context.clock.instant();
        self.counts.received.add(changes.len() as u64);
        self.counts.dispatched.add(changes.len() as u64);
        for change in &changes {
            self.history.push(change.clone(), now);
        }
        if let Some(revision) = last {
            self.cache.applied.advance(revision);
        }
        self.tell(News::Changes(changes));
        self.want_tick(now);
    }

    /// Tells the watchers, if there were ever any. They hear everything in order, or their watches end.
    fn tell(&mut self, news: News) -> bool {
        let Some(watchers) = &self.watchers else { return false };
        let told = Told { anew: self.missed, news };
        self.missed = watchers.try_tell(told, Cause::default()).is_err();
        if self.missed {
            self.cache.ticks.want(1);
        }
        !self.missed
    }

    fn apply_one(&self, snapshot: &mut Snapshot, event: StoreEvent, cause: Cause) -> Option<Change> {
        let key = keys::parse(&self.cache.resource.storage_prefix, event.key())?;
        let revision = event.revision();
        if snapshot.objects.get(&key).is_some_and(|held| held.revision >= revision) {
            return None;
        }
        snapshot.revision = revision;
        let cause = cause.with_object(self.version(&key, revision));
        if is_sealed(&event) {
            // What it was stays there for the server itself: what enforces policies must not take them for gone.
            snapshot.unreadable.insert(key);
            return None;
        }
        if !snapshot.unreadable.is_empty() {
            snapshot.unreadable.remove(&key);
        }
        let current = match event {
            StoreEvent::Put { kv, .. } => decode(&self.cache, kv, cause.trace != 0),
            StoreEvent::Delete { .. } => None,
        };
        let previous = match &current {
            Some(object) => snapshot.insert(key, object.clone()),
            None => snapshot.remove(&key),
        };
        (previous.is_some() || current.is_some()).then_some(Change { revision, previous, current, cause })
    }

    fn version(&self, key: &ObjectKey, revision: Revision) -> Arc<ObjectVersion> {
        Arc::new(ObjectVersion { resource: self.name.clone(), key: key.clone(), revision })
    }

    fn take_cause(&mut self, event: &StoreEvent) -> Cause {
        let value = match event {
            StoreEvent::Put { kv, .. } => kv.value.clone(),
            StoreEvent::Delete { .. } => Bytes::new(),
        };
        self.forget_announced(event.key(), &value).unwrap_or_default()
    }

    fn forget_announced(&mut self, key: &Bytes, value: &Bytes) -> Option<Cause> {
        let writers = self.announced.get_mut(key)?;
        let at = writers.iter().position(|(announced, _)| announced == value);
        let cause = at.map(|at| writers.swap_remove(at).1);
        if writers.is_empty() {
            self.announced.remove(key);
        }
        cause
    }

    fn subscribe(&mut self, request: Subscribe, cx: &UnitContext<'_, Self>) -> Result<Subscription, NoSubscription> {
        if self.waiting.is_some() {
            return Err(NoSubscription::Loading);
        }
        let snapshot = self.cache.load();
        let progress = self.cache.progress(&self.context.dispatched).max(self.loaded_at);
        let (backlog, from, revision, told) = match request.start {
            Start::Initial => (Backlog::Objects(snapshot.clone()), snapshot.revision, progress, progress),
            Start::After(after) => {
                let oldest = self.history.complete_after();
                let changes = self.history.after(after).ok_or(NoSubscription::TooOld(oldest))?;
                (Backlog::Changes(changes), snapshot.revision.max(after), progress.max(after), after)
            }
        };
        let (sender, receiver) = queue();
        let now = self.context.clock.instant();
        let mut watcher = Watcher::new(sender, from, request.bookmarks.then_some(request.ends), now);
        if request.progress {
            watcher = watcher.with_progress(told);
            self.tells_progress = true;
        }
        let owes_progress = request.progress && told < snapshot.revision;
        self.start_watchers(cx);
        self.last_end = self.last_end.max(request.ends);
        self.cache.ticks.want(if owes_progress || self.ends_later_than(now) { 1 } else { ticks::first(&self.name) });
        if self.tell(News::Watcher(request.selection, watcher)) {
            Ok(Subscription { backlog, revision, queue: receiver })
        } else {
            Err(NoSubscription::Loading)
        }
    }

    fn start_watchers(&mut self, cx: &UnitContext<'_, Self>) {
        // The unit that had this path before takes those below it along when it ends, which may be late.
        if self.watchers.as_ref().is_none_or(|watchers| !watchers.connected()) {
            let counts = self.counts;
            let watchers = cx.system().spawn(format!("{}/watchers", cx.path()), Watchers::policy(), move |_| Watchers::new(counts));
            self.watchers = Some(cx.reach(&watchers));
        }
    }

    fn tick(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.load_if_stale(cx);
        let (revision, now) = (self.cache.progress(&self.context.dispatched), self.context.clock.instant());
        self.history.forget_old(now);
        let changed = self.cache.load().revision;
        if self.tell(News::Time(Moment { revision, changed, now })) {
            // Not the revision of the load: that is no change, and watches at other servers on the store are told of none.
            self.cache.announce(self.changed);
        }
        self.want_tick(now);
    }

    /// Says when time brings it something, if it does.
    fn want_tick(&self, now: Instant) {
        let history = self.history.expires().map(|expires| ticks::beyond(expires.saturating_duration_since(now)));
        let watches = self.watchers.as_ref().map(|_| if self.missed || self.owes_progress() || self.ends_later_than(now) { 1 } else { QUIET });
        if let Some(after) = history.into_iter().chain(watches).min() {
            self.cache.ticks.want(after);
        }
    }

    /// Whether watches that want to know how far they are may not have been told of the newest change.
    fn owes_progress(&self) -> bool {
        self.tells_progress && self.cache.announced() < self.changed
    }

    /// Whether a watch goes on of which it is known when it ends: it gets a bookmark shortly before.
    fn ends_later_than(&self, now: Instant) -> bool {
        self.last_end.is_some_and(|end| end > now)
    }
}

/// Whether an event brings an object that no key opens now.
fn is_sealed(event: &StoreEvent) -> bool {
    matches!(event, StoreEvent::Put { kv, .. } if encryption::is_sealed(&kv.value))
}

/// An object that does not decode is left out: one damaged value must not hide all others. What this server wrote just now is as it is read.
fn decode(cache: &ResourceCache, value: KeyValue, is_own: bool) -> Option<Arc<StoredObject>> {
    let revision = value.mod_revision;
    match if is_own { StoredObject::new(value.value, revision) } else { cache.resource.read(value.value, revision) } {
        Ok(object) => Some(Arc::new(object)),
        Err(error) => {
            tracing::error!(resource = ?cache.resource, %revision, %error, "a stored object does not decode");
            None
        }
    }
}

/// All of a resource as it lies in the store.
struct Loaded {
    snapshot: Snapshot,
    /// The newest change of what is there.
    changed: Revision,
}

async fn range_all(store: &dyn Store, resource: &Resource) -> Result<Loaded, StoreError> {
    let prefix = &*resource.storage_prefix;
    let start = keys::resource(prefix);
    let request = RangeRequest { end: prefix_end(&start), start, limit: 0, at: None };
    let reply = store.range(request).await?;
    let mut snapshot = Snapshot { revision: reply.revision, ..Snapshot::default() };
    let changed = reply.items.iter().map(|kv| kv.mod_revision).max().unwrap_or_default();
    let mut turn = Turn::default();
    for kv in reply.items {
        turn.step_bytes(kv.value.len()).await;
        let Some(key) = keys::parse(prefix, &kv.key) else { continue };
        if encryption::is_sealed(&kv.value) {
            snapshot.unreadable.insert(key);
            continue;
        }
        match resource.read(kv.value, kv.mod_revision) {
            Ok(object) => drop(snapshot.insert(key, Arc::new(object))),
            Err(error) => tracing::error!(%key, %error, "a stored object does not decode"),
        }
    }
    Ok(Loaded { snapshot, changed })
}

impl Unit for ResourceActor {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.cache.is_held() {
            self.is_held = true;
            self.waiting = Some(Vec::new());
        } else {
            self.load(cx);
        }
    }

    fn observe(&self) -> serde_json::Value {
        let snapshot = self.cache.load();
        serde_json::json!({
            "objects": snapshot.objects.len(),
            "revision": self.cache.applied.get().0,
            "loading": self.waiting.is_some(),
            "historyFrom": self.history.complete_after().0,
            "lagSeconds": self.cache.lag().as_secs_f64(),
        })
    }
}

impl On<Apply> for ResourceActor {
    fn on(&mut self, message: Apply, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.load_if_stale(cx);
        self.apply(message.0);
        Reply::Now(())
    }
}

impl On<Tick> for ResourceActor {
    fn on(&mut self, _: Tick, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.tick(cx);
        Reply::Now(())
    }
}

impl On<Begin> for ResourceActor {
    fn on(&mut self, _: Begin, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if std::mem::take(&mut self.is_held) {
            self.load_now(cx);
        }
        Reply::Now(())
    }
}

impl On<Announce> for ResourceActor {
    fn on(&mut self, message: Announce, _: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.announced.entry(message.key).or_default().push((message.value, message.cause));
        Reply::Now(())
    }
}

impl On<Withdraw> for ResourceActor {
    fn on(&mut self, message: Withdraw, _: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.forget_announced(&message.key, &message.value);
        Reply::Now(())
    }
}

impl On<Subscribe> for ResourceActor {
    fn on(&mut self, message: Subscribe, cx: &mut UnitContext<'_, Self>) -> Reply<Result<Subscription, NoSubscription>> {
        Reply::Now(self.subscribe(message, cx))
    }
}

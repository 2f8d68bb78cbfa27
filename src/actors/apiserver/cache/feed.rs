//! The one watch on the store, routed by key prefix to the resources' actors.
//!
//! In: the store's changes in revision order. Out: [`Apply`] batches, and the `dispatched` revision; a [`Tick`] for the actors that want one.
//! Every compaction interval it lets the store forget what is older than the interval.
//!
//! Every second it asks the store how far that is, and says how far the watch and each cache are behind it ([`Lag`]): a cache lacks what was
//! sent to it and is not applied, and whatever the watch lacks. A watch that is stuck is left for another one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc};
use troupe_api::meta::{Cause, Revision};
use troupe_api_server::store::{Store, StoreEvent, WatchMessage, keys};

use super::{
    Apply, CacheTable, ResourceCache, Route, Sequence, Tick,
    metrics::{FEED_EPISODES, FEED_REPLACEMENTS},
    ticks::TICK,
};
use crate::runtime::{
    host::{Unit, UnitContext},
    lag::{Finding, Lag, Sight},
};

const RETRY_WATCH: Duration = Duration::from_millis(200);
/// How long the store may take to say how far it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// The actor that holds the store's watch. It resumes behind the last dispatched revision.
#[derive(Clone)]
pub struct StoreFeed {
    store: Arc<dyn Store>,
    table: Arc<CacheTable>,
    dispatched: Arc<Sequence>,
    compact_every: Duration,
    /// The revision at the last compaction tick: what the next one forgets up to.
    compact_next: Revision,
    /// The newest revision that the store is known to have, and whether it is being asked for it.
    newest: Revision,
    is_asking: bool,
    lag: Lag,
    /// The caches that lack something that was sent to them, by prefix.
    late: BTreeMap<Arc<str>, Lag>,
    /// Ends the watch under way.
    stuck: Arc<Notify>,
}

impl StoreFeed {
    /// `dispatched` stands at the revision before the first one to be watched.
    pub fn new(store: Arc<dyn Store>, table: Arc<CacheTable>, dispatched: Arc<Sequence>, compact_every: Duration) -> Self {
        let compact_next = dispatched.get();
        StoreFeed {
            store,
            table,
            dispatched,
            compact_every,
            compact_next,
            newest: Revision::ZERO,
            is_asking: false,
            lag: Lag::default(),
            late: BTreeMap::new(),
            stuck: Arc::default(),
        }
    }

    async fn run(self) {
        loop {
            let stuck = self.stuck.notified();
            tokio::select! { biased; () = stuck => {}, () = self.follow() => {} }
        }
    }

    /// One watch, until it ends. It may be left between any two messages: the next one goes on behind the last revision that was dispatched.
    async fn follow(&self) {
        let mut messages = self.watch().await;
        while let Some(message) = messages.recv().await {
            match message {
                WatchMessage::Events(events) => self.route(events),
                WatchMessage::Progress(revision) => self.dispatched.advance(revision),
                // What comes next is gone: every cache starts over from the newest state.
                WatchMessage::Ended { compacted: Some(compacted) } => {
                    tracing::warn!(%compacted, "the store has forgotten what comes next, loading again");
                    self.restart_caches(self.newest().await);
                }
                // The stream ends behind this message, and the next one goes on from here.
                WatchMessage::Ended { compacted: None } => tracing::warn!("fell behind the store, watching anew"),
            }
        }
    }

    async fn watch(&self) -> mpsc::Receiver<WatchMessage> {
        loop {
            match self.store.watch(keys::ROOT.into(), self.dispatched.get().next()).await {
                Ok(receiver) => return receiver,
                Err(error) => tracing::warn!(%error, "cannot watch the store, will retry"),
            }
            tokio::time::sleep(RETRY_WATCH).await;
        }
    }

    async fn newest(&self) -> Revision {
        loop {
            match self.store.current_revision().await {
                Ok(revision) => return revision,
                Err(error) => tracing::warn!(%error, "cannot read the store's revision, will retry"),
            }
            tokio::time::sleep(RETRY_WATCH).await;
        }
    }

    fn restart_caches(&self, revision: Revision) {
        for route in self.table.routes().values() {
            // In this order: whoever sees the revision as sent must not see the old state as good.
            route.cache.stale.store(true, Ordering::SeqCst);
            route.cache.note_sent(revision);
        }
        self.dispatched.advance(revision);
    }

    fn route(&self, events: Vec<StoreEvent>) {
        let Some(last) = events.last().map(StoreEvent::revision) else { return };
        let routes = self.table.routes();
        // In a fixed order, so that simulations repeat themselves.
        let mut batches: BTreeMap<&str, Vec<StoreEvent>> = BTreeMap::new();
        for event in events {
            let found = keys::locate(event.key(), |prefix| routes.get_key_value(prefix));
            if let Some(((prefix, _), _)) = found {
                batches.entry(prefix).or_default().push(event);
            }
        }
        for (prefix, batch) in batches {
            let route = &routes[prefix];
            route.cache.note_sent(batch.last().map_or(last, StoreEvent::revision));
            if route.actor.try_tell(Apply(batch), Cause::default()).is_err() {
                // Full or restarting: it loads everything again.
                route.cache.stale.store(true, Ordering::SeqCst);
            }
        }
        self.dispatched.advance(last);
    }

    /// Asks the store how far it is, unless it is being asked.
    fn ask(&mut self, cx: &mut UnitContext<'_, Self>) {
        if std::mem::replace(&mut self.is_asking, true) {
            return;
        }
        let store = self.store.clone();
        let asked = async move { tokio::time::timeout(PATIENCE, store.current_revision()).await };
        cx.spawn_then(asked, |feed, answer, cx| {
            feed.is_asking = false;
            // A store that does not answer makes nobody late; health checks tell of it.
            if let Ok(Ok(newest)) = answer {
                feed.newest = feed.newest.max(newest);
                feed.look(cx.system().instant());
            }
        });
    }

    /// Looks how far the watch and the caches are behind the store.
    fn look(&mut self, now: Instant) {
        let shown = self.dispatched.get();
        let finding = self.lag.look(Sight { shown, newest: self.newest, heard: shown.0 }, now);
        let (behind, newest) = (self.lag.behind(now), self.newest);
        match finding {
            Finding::Fine => {}
            Finding::Late => {
                tracing::warn!(?behind, %shown, %newest, "the watch on the store is behind it");
                FEED_EPISODES.with(&[]).increment();
            }
            Finding::Stuck => {
                tracing::warn!(?behind, %shown, %newest, "the watch on the store is stuck, watching anew");
                FEED_REPLACEMENTS.with(&[]).increment();
                self.stuck.notify_waiters();
            }
        }
        self.look_at_caches(behind, now);
    }

    fn look_at_caches(&mut self, behind: Duration, now: Instant) {
        let routes: Arc<HashMap<Arc<str>, Route>> = self.table.routes();
        self.late.retain(|prefix, _| routes.contains_key(prefix));
        for (prefix, Route { cache, .. }) in routes.iter() {
            let (shown, newest) = (cache.applied.get(), cache.sent());
            if !cache.is_filled() || shown >= newest {
                self.late.remove(prefix);
                cache.set_lag(behind);
                continue;
            }
            let lag = self.late.entry(prefix.clone()).or_default();
            // What it lacks was handed to its actor: no other watch would bring it sooner.
            if lag.look(Sight { shown, newest, heard: shown.0 }, now) == Finding::Late {
                tracing::warn!(resource = ?cache.resource, behind = ?lag.behind(now), %shown, %newest, "the watch cache is behind the store");
            }
            cache.set_lag(lag.behind(now).max(behind));
        }
    }

    /// Has those actors look at what time brings that want to, or must load everything again.
    fn tick(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx.system().instant());
        self.ask(cx);
        let routes = self.table.routes();
        let is_due = |cache: &ResourceCache| cache.ticks.count() || cache.stale.load(Ordering::SeqCst);
        // In a fixed order, so that simulations repeat themselves.
        let due: BTreeMap<_, _> = routes.iter().filter(|(_, route)| is_due(&route.cache)).collect();
        for route in due.into_values() {
            if route.actor.try_tell(Tick, Cause::default()).is_err() {
                // Full or restarting.
                route.cache.ticks.want(1);
            }
        }
    }

    fn compact(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (store, revision) = (self.store.clone(), self.compact_next);
        self.compact_next = self.dispatched.get();
        cx.spawn(async move {
            if revision > Revision::ZERO
                && let Err(error) = store.compact(revision).await
            {
                tracing::warn!(%revision, %error, "cannot compact the store, will retry");
            }
        });
    }
}

impl Unit for StoreFeed {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.spawn(self.clone().run());
        cx.every(self.compact_every, Self::compact);
        cx.every(TICK, Self::tick);
    }

    fn observe(&self) -> serde_json::Value {
        // As of the last look, which is less than a second ago.
        let behind = self.lag.behind(tokio::time::Instant::now().into_std());
        serde_json::json!({
            "dispatched": self.dispatched.get().0,
            "newest": self.newest.0,
            "compactNext": self.compact_next.0,
            "lagSeconds": behind.as_secs_f64(),
            "lagEpisodes": self.lag.episodes(),
            "replacedWatches": self.lag.replaced(),
        })
    }
}

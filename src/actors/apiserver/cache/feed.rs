//! The one watch on the store, routed by key prefix to the resources' actors.
//!
//! In: the store's changes in revision order. Out: [`Apply`] batches, and the `dispatched` revision; a [`Tick`] for the actors that want one.
//! Every compaction interval it lets the store forget what is older than the interval.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::sync::mpsc;
use troupe_api::{
    meta::{Cause, Revision},
    store::{Store, StoreEvent, WatchMessage, keys},
};

use super::{Apply, CacheTable, ResourceCache, Sequence, Tick, ticks::TICK};
use crate::runtime::host::{Unit, UnitContext};

const RETRY_WATCH: Duration = Duration::from_millis(200);

/// The actor that holds the store's watch. It resumes behind the last dispatched revision.
#[derive(Clone)]
pub struct StoreFeed {
    store: Arc<dyn Store>,
    table: Arc<CacheTable>,
    dispatched: Arc<Sequence>,
    compact_every: Duration,
    /// The revision at the last compaction tick: what the next one forgets up to.
    compact_next: Revision,
}

impl StoreFeed {
    /// `dispatched` stands at the revision before the first one to be watched.
    pub fn new(store: Arc<dyn Store>, table: Arc<CacheTable>, dispatched: Arc<Sequence>, compact_every: Duration) -> Self {
        let compact_next = dispatched.get();
        StoreFeed { store, table, dispatched, compact_every, compact_next }
    }

    async fn run(self) {
        loop {
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

    /// Has those actors look at what time brings that want to, or must load everything again.
    fn tick(&self) {
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
        cx.every(TICK, |feed, _| feed.tick());
    }

    fn observe(&self) -> serde_json::Value {
        serde_json::json!({"dispatched": self.dispatched.get().0, "compactNext": self.compact_next.0})
    }
}

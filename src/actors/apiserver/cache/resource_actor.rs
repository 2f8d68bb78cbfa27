//! The actor of one resource: applies changes in order and keeps history. The only writer of its cache.
//!
//! In: [`Apply`] and [`Tick`] from the store feed, [`Subscribe`] from watches, [`Announce`] from writers. Out: a new snapshot, which writes
//! wait for, and the same changes for its [`Watchers`], a unit that is started with the first watch. When it starts (again), its state comes
//! from the store.

mod announced;
mod applying;
mod loading;
mod watching;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use troupe_api::{
    meta::{Clock, Revision},
    resources::{Feature, Resource},
};
use troupe_api_server::store::{Store, StoreEvent};

use self::announced::Announced;
use super::{
    History, ResourceCache, Sequence,
    messages::{Announce, Apply, Begin, NoSubscription, Subscribe, Subscription, Tick, Withdraw},
    metrics::CacheCounts,
    watchers::Watchers,
};
use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitAddr, UnitContext},
    placement::ArbiterGroup,
    unit::Policy,
};

/// Batches of changes that may wait for the actor; more make it load everything again.
const MAILBOX: usize = 4096;

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
    announced: Announced,
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
            announced: Announced::default(),
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
        self.announced.note(message.key, message.value, message.cause);
        Reply::Now(())
    }
}

impl On<Withdraw> for ResourceActor {
    fn on(&mut self, message: Withdraw, _: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.announced.take(&message.key, &message.value);
        Reply::Now(())
    }
}

impl On<Subscribe> for ResourceActor {
    fn on(&mut self, message: Subscribe, cx: &mut UnitContext<'_, Self>) -> Reply<Result<Subscription, NoSubscription>> {
        Reply::Now(self.subscribe(message, cx))
    }
}

//! The one watch on the store, routed by key prefix to the resources' actors.
//!
//! In: the store's changes in revision order. Out: [`Apply`] batches, and the `dispatched` revision.
//! Every compaction interval it lets the store forget what is older than the interval.

use std::{collections::HashMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, StreamHandler, WrapFuture};
use tokio_stream::wrappers::ReceiverStream;
use troupe_api::{
    meta::Revision,
    store::{Store, StoreError, StoreEvent, WatchMessage, keys},
};

use super::{Apply, CacheTable, Sequence};

const RETRY_WATCH: Duration = Duration::from_millis(200);

/// The actor that holds the store's watch.
pub struct StoreFeed {
    store: Arc<dyn Store>,
    table: Arc<CacheTable>,
    dispatched: Arc<Sequence>,
    compact_every: Duration,
    /// The revision at the last compaction tick: what the next one forgets up to.
    compact_next: Revision,
}

/// A watch from the store, or the revision that was compacted under us.
#[derive(Message)]
#[rtype(result = "()")]
struct Watching(ReceiverStream<WatchMessage>);

impl StoreFeed {
    /// `dispatched` stands at the revision before the first one to be watched.
    pub fn new(store: Arc<dyn Store>, table: Arc<CacheTable>, dispatched: Arc<Sequence>, compact_every: Duration) -> Self {
        let compact_next = dispatched.get();
        StoreFeed { store, table, dispatched, compact_every, compact_next }
    }

    fn watch(&mut self, ctx: &mut Context<Self>) {
        let (store, table, dispatched) = (self.store.clone(), self.table.clone(), self.dispatched.clone());
        let opening = async move {
            loop {
                match store.watch(keys::ROOT.into(), dispatched.get().next()).await {
                    Ok(receiver) => return ReceiverStream::new(receiver),
                    Err(StoreError::Compacted { .. }) => match store.current_revision().await {
                        // What lies between is gone: every cache starts over from the newest state.
                        Ok(revision) => restart_caches(&table, &dispatched, revision),
                        Err(error) => tracing::warn!(%error, "cannot read the store's revision, will retry"),
                    },
                    Err(error) => tracing::warn!(%error, "cannot watch the store, will retry"),
                }
                tokio::time::sleep(RETRY_WATCH).await;
            }
        };
        ctx.spawn(opening.into_actor(self).map(|stream, _, ctx| ctx.notify(Watching(stream))));
    }

    fn route(&self, events: Vec<StoreEvent>) {
        let Some(last) = events.last().map(StoreEvent::revision) else { return };
        let mut batches: HashMap<&str, Vec<StoreEvent>> = HashMap::new();
        let routes = self.table.routes();
        for event in events {
            let found = keys::locate(event.key(), |prefix| routes.get_key_value(prefix));
            if let Some(((prefix, _), _)) = found {
                batches.entry(prefix).or_default().push(event);
            }
        }
        for (prefix, batch) in batches {
            let route = &routes[prefix];
            route.cache.note_sent(batch.last().map_or(last, StoreEvent::revision));
            if route.actor.try_send(Apply(batch)).is_err() {
                // Full or restarting: it loads everything again.
                route.cache.stale.store(true, Ordering::SeqCst);
            }
        }
        self.dispatched.advance(last);
    }

    fn compact(&mut self, ctx: &mut Context<Self>) {
        let (store, revision) = (self.store.clone(), self.compact_next);
        self.compact_next = self.dispatched.get();
        let compacting = async move {
            if revision > Revision::ZERO
                && let Err(error) = store.compact(revision).await
            {
                tracing::warn!(%revision, %error, "cannot compact the store, will retry");
            }
        };
        ctx.spawn(compacting.into_actor(self));
    }
}

fn restart_caches(table: &CacheTable, dispatched: &Sequence, revision: Revision) {
    for route in table.routes().values() {
        route.cache.stale.store(true, Ordering::SeqCst);
    }
    dispatched.advance(revision);
}

impl Actor for StoreFeed {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.watch(ctx);
        ctx.run_interval(self.compact_every, Self::compact);
    }
}

impl Handler<Watching> for StoreFeed {
    type Result = ();

    fn handle(&mut self, message: Watching, ctx: &mut Self::Context) {
        ctx.add_stream(message.0);
    }
}

impl StreamHandler<WatchMessage> for StoreFeed {
    fn handle(&mut self, message: WatchMessage, _: &mut Self::Context) {
        match message {
            WatchMessage::Events(events) => self.route(events),
            WatchMessage::Progress(revision) => self.dispatched.advance(revision),
            // The stream ends behind this message, and `finished` opens the next.
            WatchMessage::Ended { compacted } => tracing::warn!(?compacted, "the store ended the watch"),
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        self.watch(ctx);
    }
}

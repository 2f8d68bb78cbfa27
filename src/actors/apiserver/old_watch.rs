//! Watches that resume behind the history in memory: the store replays what it has not forgotten, until the history goes on.
//!
//! A replay reads values from the disk and decodes them for one watcher alone. So there are few at a time; who comes when all are under
//! way is told that its revision is too old, as upstream tells everybody whose revision is not in memory, and lists again.

use std::sync::Arc;

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use troupe_api::{
    aside,
    meta::{Cause, Revision},
    resources::Resource,
    service::WatchItem,
    status::Status,
};
use troupe_api_server::{
    encryption,
    store::{KeyValue, Store, StoreEvent, WatchMessage, keys},
};

use super::{
    cache::{Backlog, Change, Delivery, Queued, Route, Selection, Start, Subscribe, too_old},
    selection::selected,
    store_status::store_status,
    subscribe::subscribe,
};

/// Replays under way in this process.
static REPLAYS: Semaphore = Semaphore::const_new(4);

/// A watch that begins behind the history.
pub struct Replay<'a> {
    pub store: &'a dyn Store,
    pub route: &'a Route,
    pub request: Subscribe,
    pub after: Revision,
    /// The newest revision that the history has forgotten.
    pub oldest: Revision,
}

impl Replay<'_> {
    /// The changes behind `after`, from the store and then from the cache.
    ///
    /// # Errors
    /// 410 when they are forgotten, or too many others replay.
    pub async fn start(self) -> Result<BoxStream<'static, Delivery>, Status> {
        let Replay { store, route, request, after, oldest } = self;
        let permit = REPLAYS.try_acquire().map_err(|_| too_old(after, oldest))?;
        let messages = store.watch(keys::resource(&route.cache.resource.storage_prefix), after.next()).await.map_err(store_status)?;
        let replaying =
            Replaying { messages, _permit: permit, route: route.clone(), request, behalf: aside::behalf(), begun: after, reached: after, oldest };
        let deliveries = stream::unfold(Some(Box::new(replaying)), |replaying| async move { replaying?.next().await });
        Ok(deliveries.flatten().boxed())
    }
}

/// A watch that is told what the store replays.
struct Replaying {
    messages: mpsc::Receiver<WatchMessage>,
    _permit: SemaphorePermit<'static>,
    route: Route,
    request: Subscribe,
    behalf: Arc<str>,
    begun: Revision,
    /// All changes up to here were told.
    reached: Revision,
    oldest: Revision,
}

/// What comes next, and who goes on afterwards, if anybody.
type Next = (BoxStream<'static, Delivery>, Option<Box<Replaying>>);

impl Replaying {
    /// What comes next; nothing when that was all.
    async fn next(mut self: Box<Self>) -> Option<Next> {
        loop {
            if self.reached >= self.oldest
                && let Some(live) = self.live().await
            {
                return Some((live, None));
            }
            match self.messages.recv().await? {
                WatchMessage::Progress(revision) => self.reached = self.reached.max(revision),
                WatchMessage::Ended { compacted: None } => return None,
                WatchMessage::Ended { compacted: Some(_) } => {
                    let gone = Delivery::Item(WatchItem::End(too_old(self.begun, self.oldest)));
                    return Some((stream::iter([gone]).boxed(), None));
                }
                WatchMessage::Events(mut events) => {
                    let unreadable = events.iter().position(is_unreadable);
                    events.truncate(unreadable.unwrap_or(events.len()));
                    self.reached = events.last().map_or(self.reached, StoreEvent::revision);
                    let mut told = self.view(events).await;
                    if unreadable.is_none() {
                        return Some((stream::iter(told).boxed(), Some(self)));
                    }
                    // Whoever is told of what comes behind it would take the object for what it was, or for gone.
                    told.push(Delivery::Item(WatchItem::End(Status::internal("a stored object cannot be read with the keys of now"))));
                    return Some((stream::iter(told).boxed(), None));
                }
            }
        }
    }

    /// What the watcher sees of events. Decoding them goes on aside.
    async fn view(&self, events: Vec<StoreEvent>) -> Vec<Delivery> {
        let (resource, selection) = (self.route.cache.resource.clone(), self.request.selection.clone());
        let bytes = events.iter().map(StoreEvent::value_bytes).sum();
        aside::on_behalf_of(self.behalf.clone(), aside::compute(bytes, move || view(&resource, &selection, events))).await
    }

    /// The rest, from the cache, if its history begins where the replay is.
    async fn live(&mut self) -> Option<BoxStream<'static, Delivery>> {
        let request = Subscribe { start: Start::After(self.reached), ..self.request.clone() };
        match subscribe(&self.route, request).await {
            Ok(Ok(subscription)) => {
                let backlog = match subscription.backlog {
                    Backlog::Changes(mut changes) => {
                        let selected = selected(changes.take(usize::MAX), self.request.selection.clone());
                        aside::on_behalf_of(self.behalf.clone(), selected).await
                    }
                    Backlog::Objects(..) => Vec::new(),
                };
                // The cache takes it for told up to where the replay came, of which nothing told the watcher if nothing happened.
                let told = WatchItem::Bookmark { revision: subscription.revision, initial_end: false };
                let told = self.request.progress.then_some(Delivery::Item(told));
                let news = ReceiverStream::new(subscription.queue).map(Queued::take);
                Some(stream::iter(backlog.into_iter().chain(told)).chain(news).boxed())
            }
            // The history moved on meanwhile.
            Ok(Err(oldest)) => {
                self.oldest = oldest;
                None
            }
            Err(status) => Some(stream::iter([Delivery::Item(WatchItem::End(status))]).boxed()),
        }
    }
}

/// Whether an event is of an object that no key opens.
fn is_unreadable(event: &StoreEvent) -> bool {
    match event {
        StoreEvent::Put { kv, .. } => encryption::is_sealed(&kv.value),
        StoreEvent::Delete { previous, .. } => encryption::is_sealed(&previous.value),
    }
}

fn view(resource: &Resource, selection: &Selection, events: Vec<StoreEvent>) -> Vec<Delivery> {
    events.into_iter().filter_map(|event| selection.deliver(&change(resource, event))).collect()
}

fn change(resource: &Resource, event: StoreEvent) -> Change {
    // What does not decode is left out, as in the caches.
    let decode = |kv: KeyValue| resource.read(kv.value, kv.mod_revision).ok().map(Arc::new);
    let revision = event.revision();
    let (previous, current) = match event {
        StoreEvent::Put { kv, previous } => (previous.and_then(decode), decode(kv)),
        StoreEvent::Delete { previous, .. } => (decode(previous), None),
    };
    Change { revision, previous, current, cause: Cause::default() }
}

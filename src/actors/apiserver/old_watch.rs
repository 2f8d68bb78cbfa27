//! Watches that resume behind the history in memory: the store replays what is not compacted.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio_stream::wrappers::ReceiverStream;
use troupe_api::{
    meta::{Cause, Revision},
    resources::Resource,
    service::{WatchItem, WatchStream},
    status::Status,
    store::{KeyValue, Store, StoreEvent, WatchMessage, keys},
};

use super::{
    cache::{Change, ResourceCache, Selection, too_old},
    store_status::store_status,
};

/// Watches `selection` behind `after` straight from the store; 410 when that is compacted. Such a stream has no bookmarks.
pub async fn watch(
    store: &dyn Store,
    cache: &ResourceCache,
    selection: Arc<Selection>,
    after: Revision,
    oldest: Revision,
) -> Result<WatchStream, Status> {
    let resource = cache.resource.clone();
    match store.watch(keys::resource(&cache.resource.storage_prefix), after.next()).await {
        Ok(messages) => {
            let items =
                ReceiverStream::new(messages).flat_map(move |message| stream::iter(view(&resource, &selection, message, || too_old(after, oldest))));
            Ok(items.boxed())
        }
        Err(error) => Err(store_status(error)),
    }
}

/// What a watcher sees of a message; `gone` is its end when the store has forgotten where it wants to begin.
fn view(resource: &Resource, selection: &Selection, message: WatchMessage, gone: impl Fn() -> Status) -> Vec<WatchItem> {
    match message {
        WatchMessage::Events(events) => events.into_iter().filter_map(|event| selection.view(&change(resource, event))).collect(),
        WatchMessage::Ended { compacted: Some(_) } => vec![WatchItem::End(gone())],
        WatchMessage::Progress(_) | WatchMessage::Ended { compacted: None } => Vec::new(),
    }
}

fn change(resource: &Resource, event: StoreEvent) -> Change {
    // What does not decode is left out, as in the caches.
    let decode = |kv: KeyValue| resource.read(kv).ok().map(Arc::new);
    let revision = event.revision();
    let (previous, current) = match event {
        StoreEvent::Put { kv, previous } => (previous.and_then(decode), decode(kv)),
        StoreEvent::Delete { previous, .. } => (decode(previous), None),
    };
    Change { revision, previous, current, cause: Cause::default() }
}

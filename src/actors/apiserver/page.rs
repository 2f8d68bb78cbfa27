//! Pages of lists: what of a snapshot they show, and where the next one begins.

use std::{sync::Arc, time::Instant};

use troupe_api::{
    meta::{ObjectKey, Revision},
    service::ListReply,
    stored::StoredObject,
};

use super::{
    cache::{ResourceCache, Selection, Snapshot},
    continue_token::ContinueToken,
};

/// Where the items of a list come from.
pub struct Source {
    pub snapshot: Arc<Snapshot>,
    pub revision: Revision,
    pub after: Option<ObjectKey>,
}

/// The objects of a page that are selected; all of them where `limit` is 0.
pub fn page(cache: &ResourceCache, selection: &Selection, source: Source, limit: usize, now: Instant) -> ListReply {
    let Source { snapshot, revision, after } = source;
    let is_first = after.is_none();
    let mut matching = snapshot.scan(&selection.namespace, after.as_ref()).filter(|object| selection.matches(object)).cloned();
    if limit == 0 {
        return ListReply { items: matching.collect(), revision, continue_token: None, remaining: None };
    }
    let items: Vec<_> = matching.by_ref().take(limit).collect();
    let more = matching.next().is_some();
    // As upstream: with selectors the number of remaining items is not told.
    let remaining = (more && selection.is_everything()).then(|| 1 + matching.count() as u64);
    let continue_token = more.then(|| next_page(cache, &items, (revision, &snapshot), is_first, now)).flatten();
    ListReply { items, revision, continue_token, remaining }
}

/// The token of the page behind `items`. The snapshot is kept for pages to come, from the first one on: a list ends in time, as the store
/// forgets its revision.
pub fn next_page(
    cache: &ResourceCache,
    items: &[Arc<StoredObject>],
    (revision, snapshot): (Revision, &Arc<Snapshot>),
    is_first: bool,
    now: Instant,
) -> Option<String> {
    let last = items.last()?.key.clone();
    if is_first {
        cache.pin(revision, snapshot.clone(), now);
    }
    Some(ContinueToken { revision: Some(revision), last }.encode())
}

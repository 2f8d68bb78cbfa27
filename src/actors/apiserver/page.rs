//! Pages of lists: where their items come from, and how the next one goes on.

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
    /// Whether the snapshot has all of the resource, and not only what was asked for.
    pub is_whole: bool,
}

/// The page of what is selected; 0 is no limit.
pub fn page(cache: &ResourceCache, selection: &Selection, source: Source, limit: usize, now: Instant) -> ListReply {
    let Source { snapshot, revision, after, .. } = &source;
    let mut matching = snapshot.scan(&selection.namespace, after.as_ref()).filter(|object| selection.matches(object)).cloned();
    if limit == 0 {
        return ListReply { items: matching.collect(), revision: *revision, continue_token: None, remaining: None };
    }
    let items: Vec<_> = matching.by_ref().take(limit).collect();
    let more = matching.next().is_some();
    // As upstream: with selectors the number of remaining items is not told.
    let remaining = (more && selection.is_everything()).then(|| 1 + matching.count() as u64);
    let continue_token = more.then(|| next(cache, &items, &source, now)).flatten();
    ListReply { items, revision: *revision, continue_token, remaining }
}

/// The token of the page behind `items`. The snapshot is kept for pages to come, from the first one on: a list ends in time, as the store
/// forgets its revision.
pub fn next(cache: &ResourceCache, items: &[Arc<StoredObject>], source: &Source, now: Instant) -> Option<String> {
    let last = items.last()?.key.clone();
    if source.after.is_none() && source.is_whole {
        cache.pin(source.revision, source.snapshot.clone(), now);
    }
    Some(ContinueToken { revision: Some(source.revision), last }.encode())
}

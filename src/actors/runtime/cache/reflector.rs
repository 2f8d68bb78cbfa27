//! Feeds a cache from a watch: initial events collected aside, then changes; lists again after 410.

use std::future;

use futures::StreamExt;
use imbl::OrdMap;
use troupe_api::{
    client::Api,
    meta::Revision,
    service::{EventType, WatchItem, WatchOptions},
    status::Status,
    stored::KubeObject,
};

use super::{Cache, definition::Definition};
use crate::runtime::{resume::Resume, turn::Turn};

/// Keeps `cache` fed, for ever. `selected` carries label and field selectors; where it begins is decided here.
pub async fn reflect<K: KubeObject>(api: Api<K>, selected: WatchOptions, cache: Cache<K>) {
    let mut resume = Resume::default();
    loop {
        let outcome = follow(&api, &selected, &cache, &mut resume, future::pending()).await;
        pause(&outcome, &mut resume, K::KIND).await;
    }
}

/// The same for a kind that is not built in: while nobody defines it, there are no objects.
pub async fn reflect_defined<K: KubeObject>(definition: Definition, api: Api<K>, selected: WatchOptions, cache: Cache<K>) {
    let mut resume = Resume::default();
    loop {
        if !definition.known().await {
            cache.replace(OrdMap::new(), Revision::ZERO).await;
            definition.becomes(true).await;
            resume = Resume::default();
        }
        let outcome = follow(&api, &selected, &cache, &mut resume, definition.becomes(false)).await;
        pause(&outcome, &mut resume, K::KIND).await;
    }
}

async fn pause(outcome: &Result<(), Status>, resume: &mut Resume, kind: &str) {
    if let Err(status) = outcome {
        tracing::debug!(kind, error = %status.message, "watch ended");
    }
    tokio::time::sleep(resume.ended(outcome)).await;
}

/// One watch, until it ends or is no longer wanted.
async fn follow<K: KubeObject>(
    api: &Api<K>,
    selected: &WatchOptions,
    cache: &Cache<K>,
    resume: &mut Resume,
    unwanted: impl Future<Output = ()>,
) -> Result<(), Status> {
    let afresh = resume.revision().is_none();
    let options = WatchOptions { resource_version: resume.revision(), allow_bookmarks: true, send_initial_events: Some(afresh), ..selected.clone() };
    let events = api.watch_stored(options).await?.take_until(unwanted);
    tokio::pin!(events);
    let mut listing = afresh.then(OrdMap::new);
    let mut turn = Turn::default();
    while let Some(item) = events.next().await {
        match item {
            WatchItem::Event { event, object: stored, cause } => {
                let (key, revision) = (stored.key.clone(), stored.revision);
                let stored = (event != EventType::Deleted).then_some(stored);
                match (&mut listing, stored) {
                    (Some(listing), Some(stored)) => drop(listing.insert(key, stored)),
                    (Some(listing), None) => drop(listing.remove(&key)),
                    (None, stored) => cache.apply(key, stored, revision, &cause),
                }
                resume.saw(revision);
            }
            WatchItem::Bookmark { revision, initial_end } => {
                if initial_end && let Some(listed) = listing.take() {
                    cache.replace(listed, revision).await;
                    resume.reached(revision);
                } else if listing.is_none() {
                    cache.advance(revision);
                    resume.reached(revision);
                }
            }
            WatchItem::End(status) => return Err(status),
        }
        // What the stream holds comes without a pause.
        turn.step().await;
    }
    Ok(())
}

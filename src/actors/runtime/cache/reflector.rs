//! Feeds a cache from a watch: initial events collected aside, then changes; lists again after 410.

use futures::StreamExt;
use imbl::OrdMap;
use troupe_api::{
    client::Api,
    service::{EventType, WatchItem, WatchOptions},
    status::Status,
    stored::KubeObject,
};

use super::Cache;
use crate::runtime::{resume::Resume, turn::Turn};

/// Keeps `cache` fed, for ever. `selected` carries label and field selectors; where it begins is decided here.
pub async fn reflect<K: KubeObject>(api: Api<K>, selected: WatchOptions, cache: Cache<K>) {
    let mut resume = Resume::default();
    loop {
        let outcome = follow(&api, &selected, &cache, &mut resume).await;
        if let Err(status) = &outcome {
            tracing::debug!(kind = K::KIND, error = %status.message, "watch ended");
        }
        tokio::time::sleep(resume.ended(&outcome)).await;
    }
}

async fn follow<K: KubeObject>(api: &Api<K>, selected: &WatchOptions, cache: &Cache<K>, resume: &mut Resume) -> Result<(), Status> {
    let afresh = resume.revision().is_none();
    let options = WatchOptions { resource_version: resume.revision(), allow_bookmarks: true, send_initial_events: Some(afresh), ..selected.clone() };
    let mut events = api.watch_stored(options).await?;
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

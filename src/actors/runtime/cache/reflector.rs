//! Feeds a cache from a watch: initial events collected aside, then changes; lists again after 410.

use std::time::Duration;

use futures::StreamExt;
use imbl::OrdMap;
use troupe_api::{
    client::{Api, WatchEvent},
    meta::Revision,
    service::WatchOptions,
    status::Status,
    stored::KubeObject,
};

use super::{Cache, Cached};

/// Keeps `cache` fed, for ever. `selected` carries label and field selectors; where it begins is decided here.
pub async fn reflect<K: KubeObject>(api: Api<K>, selected: WatchOptions, cache: Cache<K>) {
    let mut resume = None;
    let mut pause = Duration::from_millis(50);
    loop {
        let before = resume;
        if let Err(status) = follow(&api, &selected, &cache, &mut resume).await {
            tracing::debug!(kind = K::KIND, error = %status.message, "watch ended");
            if status.code == 410 {
                resume = None;
            }
        }
        pause = if resume > before { Duration::from_millis(50) } else { (pause * 2).min(Duration::from_secs(10)) };
        tokio::time::sleep(pause).await;
    }
}

async fn follow<K: KubeObject>(api: &Api<K>, selected: &WatchOptions, cache: &Cache<K>, resume: &mut Option<Revision>) -> Result<(), Status> {
    let options = WatchOptions { resource_version: *resume, allow_bookmarks: true, send_initial_events: Some(resume.is_none()), ..selected.clone() };
    let mut events = api.watch(options).await?;
    let mut listing = resume.is_none().then(OrdMap::new);
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Applied { object, stored, cause } => {
                let (key, revision) = (stored.key.clone(), stored.revision);
                match &mut listing {
                    Some(listing) => drop(listing.insert(key, stored)),
                    None => cache.apply(key, Some(Cached { object, stored }), revision, &cause),
                }
                *resume = resume.map(|seen| seen.max(revision));
            }
            WatchEvent::Deleted { stored, cause, .. } => {
                match &mut listing {
                    Some(listing) => drop(listing.remove(&stored.key)),
                    None => cache.apply(stored.key.clone(), None, stored.revision, &cause),
                }
                *resume = resume.map(|seen| seen.max(stored.revision));
            }
            WatchEvent::Bookmark { revision, initial_end } => {
                if initial_end && let Some(listed) = listing.take() {
                    cache.replace(listed, revision);
                    *resume = Some(revision);
                } else if listing.is_none() {
                    cache.advance(revision);
                    *resume = Some(revision);
                }
            }
            WatchEvent::End(status) => return Err(status),
        }
    }
    Ok(())
}

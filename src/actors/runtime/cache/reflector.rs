//! Feeds a cache from a watch: initial events collected aside, then changes; lists again after 410.

use futures::StreamExt;
use imbl::OrdMap;
use troupe_api::{
    client::{Api, WatchEvent},
    service::WatchOptions,
    status::Status,
    stored::KubeObject,
};

use super::{Cache, Cached};
use crate::runtime::resume::Resume;

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
    let mut events = api.watch(options).await?;
    let mut listing = afresh.then(OrdMap::new);
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Applied { object, stored, cause } => {
                let (key, revision) = (stored.key.clone(), stored.revision);
                match &mut listing {
                    Some(listing) => drop(listing.insert(key, stored)),
                    None => cache.apply(key, Some(Cached { object, stored }), revision, &cause),
                }
                resume.saw(revision);
            }
            WatchEvent::Deleted { stored, cause, .. } => {
                match &mut listing {
                    Some(listing) => drop(listing.remove(&stored.key)),
                    None => cache.apply(stored.key.clone(), None, stored.revision, &cause),
                }
                resume.saw(stored.revision);
            }
            WatchEvent::Bookmark { revision, initial_end } => {
                if initial_end && let Some(listed) = listing.take() {
                    cache.replace(listed, revision);
                    resume.reached(revision);
                } else if listing.is_none() {
                    cache.advance(revision);
                    resume.reached(revision);
                }
            }
            WatchEvent::End(status) => return Err(status),
        }
    }
    Ok(())
}

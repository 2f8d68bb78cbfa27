//! Feeds a cache from a watch: initial events collected aside, then changes; lists again after 410.

use std::future;

use futures::StreamExt;
use imbl::OrdMap;
use tokio::time::Instant;
use troupe_api::{
    meta::Revision,
    service::{EventType, WatchItem, WatchOptions},
    status::Status,
    stored::KubeObject,
};
use troupe_api_client::Api;

use super::{Cache, definition::Definition};
use crate::runtime::{resume::Resume, turn::Turn};

/// So often in a row a watch is refused before what it would show counts as not there (after one and a half seconds): rights may come a
/// moment after those who need them.
const REFUSALS: u32 = 5;

/// Keeps `cache` fed, for ever. `selected` carries label and field selectors; where it begins is decided here.
pub async fn reflect<K: KubeObject>(api: Api<K>, selected: WatchOptions, cache: Cache<K>) {
    let mut resume = Resume::default();
    loop {
        let outcome = follow(&api, &selected, &cache, &mut resume, future::pending()).await;
        pause(&outcome, &mut resume, K::KIND).await;
    }
}

/// The same for what we may not be allowed to look at: then there is nothing, until we are.
pub async fn reflect_if_allowed<K: KubeObject>(api: Api<K>, selected: WatchOptions, cache: Cache<K>) {
    let (mut resume, mut refusals) = (Resume::default(), Refusals::default());
    loop {
        let outcome = follow(&api, &selected, &cache, &mut resume, future::pending()).await;
        refusals.note(&outcome, &cache).await;
        pause(&outcome, &mut resume, K::KIND).await;
    }
}

/// The same for a kind that is not built in: while nobody defines it, or lets us look at it, there are no objects.
pub async fn reflect_defined<K: KubeObject>(definition: Definition, api: Api<K>, selected: WatchOptions, cache: Cache<K>) {
    let (mut resume, mut refusals) = (Resume::default(), Refusals::default());
    loop {
        if !definition.known().await {
            cache.freshness().forget_source();
            cache.replace(OrdMap::new(), Revision::ZERO).await;
            definition.becomes(true).await;
            resume = Resume::default();
        }
        let outcome = follow(&api, &selected, &cache, &mut resume, definition.becomes(false)).await;
        refusals.note(&outcome, &cache).await;
        pause(&outcome, &mut resume, K::KIND).await;
    }
}

/// How often in a row a watch was refused (403).
#[derive(Debug, Default)]
struct Refusals(u32);

impl Refusals {
    /// Fills a cache of which nothing is known with nothing, when its watch was refused often enough; that is told once. What is known
    /// already stays: whoever takes a right away does not mean that what it showed is gone.
    async fn note<K: KubeObject>(&mut self, outcome: &Result<(), Status>, cache: &Cache<K>) {
        let Some(status) = self.counts(outcome) else { return };
        let unknown = cache.0.progress.get().is_none();
        let taken_as = if unknown { "there is none, as far as we know" } else { "what is known of it stays" };
        tracing::warn!(kind = K::KIND, error = %status.message, taken_as, "we may not look, will retry");
        if unknown {
            cache.replace(OrdMap::new(), Revision::ZERO).await;
        }
    }

    /// The refusal that decides, once in a row of them.
    fn counts<'a>(&mut self, outcome: &'a Result<(), Status>) -> Option<&'a Status> {
        let refused = outcome.as_ref().err().filter(|status| status.code == 403);
        self.0 = refused.map_or(0, |_| self.0.saturating_add(1));
        refused.filter(|_| self.0 == REFUSALS)
    }
}

async fn pause(outcome: &Result<(), Status>, resume: &mut Resume, kind: &str) {
    if let Err(status) = outcome {
        tracing::debug!(kind, error = %status.message, "watch ended");
    }
    tokio::time::sleep(resume.ended(outcome, Instant::now())).await;
}

/// One watch, until it ends, is stuck, or is no longer wanted.
async fn follow<K: KubeObject>(
    api: &Api<K>,
    selected: &WatchOptions,
    cache: &Cache<K>,
    resume: &mut Resume,
    unwanted: impl Future<Output = ()>,
) -> Result<(), Status> {
    let afresh = resume.revision().is_none();
    let (resource_version, send_initial_events) = (resume.revision(), Some(afresh));
    let options = WatchOptions { resource_version, allow_bookmarks: true, progress: true, send_initial_events, ..selected.clone() };
    let freshness = cache.freshness();
    let events = freshness.unless_stuck(api.watch_stored(options)).await?.take_until(unwanted);
    resume.begins(Instant::now());
    tokio::pin!(events);
    let mut listing = afresh.then(OrdMap::new);
    let mut turn = Turn::default();
    while let Some(item) = events.next().await {
        freshness.hears();
        match item {
            WatchItem::Event { event, object: stored, cause } => {
                let (key, revision) = (stored.key.clone(), stored.revision);
                if listing.is_some() {
                    cache.note_cause(&key, revision, &cause);
                }
                // A version from elsewhere is ours alone, and one of this process its server's, too.
                let stored = (event != EventType::Deleted).then(|| stored.without_managed_fields());
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

#[cfg(test)]
mod tests {
    use troupe_api::meta::GroupResource;

    use super::*;

    #[test]
    fn only_refusals_in_a_row_count_and_are_told_once() {
        let refused = Err(Status::forbidden(&GroupResource::new("example.com", "widgets"), "", "no"));
        let mut refusals = Refusals::default();
        let mut told = |outcome: &Result<(), Status>, times: u32| (0..times).filter(|_| refusals.counts(outcome).is_some()).count();
        assert_eq!(told(&refused, REFUSALS - 1), 0);
        assert_eq!(told(&Err(Status::unavailable("restarting")), 20), 0, "nobody said no");
        assert_eq!(told(&refused, REFUSALS - 1), 0);
        assert_eq!(told(&refused, 20), 1);
        assert_eq!(told(&Ok(()), 1), 0);
        assert_eq!(told(&refused, 20), 1, "it was allowed meanwhile");
    }
}

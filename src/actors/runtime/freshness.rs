//! How fresh a cache of this process is: what its watch notes, what its source is known to hold, and what follows from both.
//!
//! In: how far the cache shows everything and that its watch brought something, from whoever feeds it, without a lock; the newest change at the
//! source, from whoever looks once a second. Out: a warning when it is late, once until it has caught up, and the end of its watch when that
//! must be replaced ([`Freshness::unless_stuck`]). [`super::lag`] says when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};
use troupe_api::{meta::Revision, service::WatchStream, status::Status};

use super::lag::{Finding, Lag, Sight};

/// See the module.
#[derive(Debug)]
pub struct Freshness {
    /// What the cache is called, such as `caches/Pod`.
    path: Arc<str>,
    shown: AtomicU64,
    heard: AtomicU64,
    newest: AtomicU64,
    /// Touched by those who look, never by those who read the cache.
    lag: Mutex<Lag>,
    stuck: Notify,
}

/// What a cache is like at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct FreshnessNumbers {
    /// Up to here it shows everything; zero before it is filled.
    pub shown: Revision,
    /// The newest change that its source is known to hold.
    pub newest: Revision,
    /// How much its watches have brought.
    pub heard: u64,
    pub behind: Duration,
    /// How often it was late.
    pub episodes: u64,
    /// How often its watch was replaced because it was stuck.
    pub replaced: u64,
}

impl Freshness {
    pub fn new(path: impl Into<Arc<str>>) -> Arc<Self> {
        Arc::new(Freshness {
            path: path.into(),
            shown: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            lag: Mutex::default(),
            stuck: Notify::new(),
        })
    }

    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// The cache shows everything up to here.
    pub fn shows(&self, revision: Revision) {
        self.shown.fetch_max(revision.0, Relaxed);
    }

    /// The watch brought something.
    pub fn hears(&self) {
        self.heard.fetch_add(1, Relaxed);
    }

    /// What was known of the source holds no longer.
    pub fn forget_source(&self) {
        self.newest.store(0, Relaxed);
    }

    /// Resolves when the watch that is under way now must be replaced.
    fn stuck(&self) -> Notified<'_> {
        self.stuck.notified()
    }

    /// The watch that `begins`, which ends when it must be replaced.
    ///
    /// # Errors
    /// Those of the beginning, and that it takes too long while the cache lacks something.
    pub async fn unless_stuck(self: &Arc<Self>, begins: impl Future<Output = Result<WatchStream, Status>>) -> Result<WatchStream, Status> {
        let cache = self.clone();
        let mut stuck = Box::pin(async move { cache.stuck().await });
        let watch = tokio::select! {
            biased;
            () = &mut stuck => return Err(Status::timeout("the watch did not begin in time")),
            begun = begins => begun?,
        };
        Ok(watch.take_until(stuck).boxed())
    }

    /// Looks at the cache; `newest` is the newest change that its source is known to hold, where that is news.
    pub fn look(&self, newest: Option<Revision>, now: Instant) {
        if let Some(newest) = newest {
            self.newest.fetch_max(newest.0, Relaxed);
        }
        let mut lag = self.lag.lock();
        let shown = Revision(self.shown.load(Relaxed));
        // One that is not filled yet shows nothing to anybody.
        let newest = if shown == Revision::ZERO { shown } else { Revision(self.newest.load(Relaxed)) };
        match lag.look(Sight { shown, newest, heard: self.heard.load(Relaxed) }, now) {
            Finding::Fine => {}
            Finding::Late => tracing::warn!(cache = %self.path, behind = ?lag.behind(now), %shown, %newest, "the cache is behind its source"),
            Finding::Stuck => {
                tracing::warn!(cache = %self.path, behind = ?lag.behind(now), %shown, %newest, "the watch of the cache is stuck, watching anew");
                self.stuck.notify_waiters();
            }
        }
    }

    /// What the cache is like now.
    pub fn numbers(&self, now: Instant) -> FreshnessNumbers {
        let lag = self.lag.lock();
        FreshnessNumbers {
            shown: Revision(self.shown.load(Relaxed)),
            newest: Revision(self.newest.load(Relaxed)),
            heard: self.heard.load(Relaxed),
            behind: lag.behind(now),
            episodes: lag.episodes(),
            replaced: lag.replaced(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_cache_that_is_not_filled_is_not_late_and_one_that_lacks_something_is() {
        let (cache, start) = (Freshness::new("caches/Pod"), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        (0..30).for_each(|second| cache.look(Some(Revision(9)), after(second)));
        assert_eq!(cache.numbers(after(30)).episodes, 0);
        cache.shows(Revision(8));
        let stuck = cache.stuck();
        (30..34).for_each(|second| cache.look(None, after(second)));
        let numbers = cache.numbers(after(33));
        assert_eq!((numbers.episodes, numbers.replaced, numbers.behind), (1, 0, Duration::from_secs(3)));
        cache.look(None, after(34));
        assert!(stuck.now_or_never().is_some(), "the watch under way hears of it");
        assert!(cache.stuck().now_or_never().is_none(), "the next one does not");
        cache.shows(Revision(9));
        cache.look(None, after(35));
        let numbers = cache.numbers(after(36));
        assert_eq!((numbers.episodes, numbers.replaced, numbers.behind), (1, 1, Duration::ZERO));
    }
}

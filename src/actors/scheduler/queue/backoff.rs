//! Pods that rest after a failed attempt. Those that a change may have helped can be taken out before their rest is over, when there is
//! nothing else to do (KEP-5142, `SchedulerPopFromBackoffQ`).

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use troupe_api::meta::ObjectKey;

/// How long a pod rests after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoffs {
    /// After the first; doubles with each further one (`podInitialBackoffSeconds`).
    pub initial: Duration,
    /// At most (`podMaxBackoffSeconds`).
    pub most: Duration,
    /// Whether rest is cut short when no pod is active (`SchedulerPopFromBackoffQ`).
    pub cut_short: bool,
}

impl Default for Backoffs {
    fn default() -> Self {
        Backoffs { initial: Duration::from_secs(1), most: Duration::from_secs(10), cut_short: true }
    }
}

impl Backoffs {
    pub(super) fn after(&self, attempts: u32) -> Duration {
        self.initial.saturating_mul(1 << attempts.saturating_sub(1).min(30)).min(self.most)
    }
}

/// Pods whose rest ends within the same window are taken out by priority.
const WINDOW: Duration = Duration::from_secs(1);

/// When a pod's rest ends, and whether it may be cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub until: Instant,
    pub may_end_early: bool,
}

/// Where a pod stands among others: the most urgent has the least.
pub(super) type Rank = (Reverse<i32>, u64);

/// The pods that rest.
#[derive(Debug, Default)]
pub(super) struct BackoffQueue {
    by_end: BTreeMap<(Instant, u64), ObjectKey>,
    /// Those whose rest may be cut short, by window and rank.
    early: BTreeMap<(u64, Rank), ObjectKey>,
    /// When the windows begin: the first end of a rest that is known.
    origin: Option<Instant>,
}

impl BackoffQueue {
    pub fn insert(&mut self, key: ObjectKey, rest: Rest, rank: Rank) {
        self.origin.get_or_insert(rest.until);
        if rest.may_end_early {
            self.early.insert((self.window(rest.until), rank), key.clone());
        }
        self.by_end.insert((rest.until, rank.1), key);
    }

    pub fn remove(&mut self, rest: Rest, rank: Rank) -> Option<ObjectKey> {
        if rest.may_end_early {
            self.early.remove(&(self.window(rest.until), rank));
        }
        self.by_end.remove(&(rest.until, rank.1))
    }

    /// The next pod whose rest is over.
    pub fn ended(&self, now: Instant) -> Option<&ObjectKey> {
        self.by_end.first_key_value().filter(|((until, _), _)| *until <= now).map(|(_, key)| key)
    }

    /// The next pod whose rest may be cut short.
    pub fn first_early(&self) -> Option<&ObjectKey> {
        self.early.first_key_value().map(|(_, key)| key)
    }

    /// When the next rest ends.
    pub fn next_end(&self) -> Option<Instant> {
        self.by_end.first_key_value().map(|((until, _), _)| *until)
    }

    pub fn len(&self) -> usize {
        self.by_end.len()
    }

    fn window(&self, until: Instant) -> u64 {
        // Ends before the first one that was known share a window with it.
        let since = self.origin.map_or(Duration::ZERO, |origin| until.saturating_duration_since(origin));
        since.as_secs() / WINDOW.as_secs()
    }
}

//! The key queue: which keys to work on, one in flight per key.
//!
//! A pure state machine driven by the time it is handed. Keys are deduplicated; a key that is added while in flight runs
//! again afterwards; failures back off; a key that fails or panics too often is quarantined and retried slowly. A key whose
//! attempts are dear rests between them: what is added meanwhile is one attempt. Namespaces have turns (`TurnQueue`).

mod in_turn;
mod metrics;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    time::{Duration, Instant},
};

use troupe_api::{
    meta::{Cause, time::instant_after},
    turn_queue::TurnQueue,
};

use self::metrics::Since;
pub use self::{
    in_turn::{InTurn, of_nobody},
    metrics::{COLLECTORS, QueueMetrics},
};

/// How failures are paced.
#[derive(Clone, Copy, Debug)]
pub struct QueuePolicy {
    /// Pause after the first failure; doubles.
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// Failures in a row after which a key is quarantined.
    pub failures: u32,
    /// Panics in a row after which a key is quarantined.
    pub panics: u32,
    /// Pause between attempts in quarantine.
    pub quarantine: Duration,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        QueuePolicy {
            backoff: Duration::from_millis(5),
            max_backoff: Duration::from_secs(1000),
            failures: 15,
            panics: 3,
            quarantine: Duration::from_secs(300),
        }
    }
}

impl QueuePolicy {
    /// The usual one with another backoff. Nothing waits for longer than that in quarantine.
    pub fn backing_off(backoff: Duration, max_backoff: Duration) -> Self {
        let usual = QueuePolicy::default();
        QueuePolicy { backoff, max_backoff, quarantine: usual.quarantine.min(max_backoff), ..usual }
    }
}

/// How an attempt on a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    RequeueAfter(Duration),
    /// No other attempt before `least` has passed, and one after `again_after` in any case, where that is said.
    Rest {
        least: Duration,
        again_after: Option<Duration>,
    },
    Failed,
    Panicked,
}

#[derive(Debug, Default)]
struct Slot {
    failures: u32,
    panics: u32,
    quarantined: bool,
    in_flight: bool,
    ready: bool,
    /// Added again while in flight, or at rest.
    dirty: bool,
    /// Until it is due.
    resting: bool,
    /// When it is wanted after its rest though nobody adds it.
    again: Option<Instant>,
    due: Option<(Instant, u64)>,
    cause: Cause,
    /// Ready, or in flight, since then; only with metrics.
    since: Option<Since>,
}

/// The queue.
#[derive(Debug)]
pub struct KeyQueue<K> {
    policy: QueuePolicy,
    slots: HashMap<K, Slot>,
    ready: TurnQueue<K>,
    due: BTreeMap<(Instant, u64), K>,
    sequence: u64,
    in_flight: usize,
    metrics: Option<QueueMetrics>,
}

impl<K: InTurn + Clone + Eq + Hash + Ord> KeyQueue<K> {
    pub fn new(policy: QueuePolicy) -> Self {
        KeyQueue { policy, slots: HashMap::new(), ready: TurnQueue::default(), due: BTreeMap::new(), sequence: 0, in_flight: 0, metrics: None }
    }

    /// Counts from now on in these series.
    pub fn measured(self, metrics: QueueMetrics) -> Self {
        KeyQueue { metrics: Some(metrics), ..self }
    }

    /// Wants `key` worked on. A wake-up of a key that backs off or is quarantined changes nothing: see [`Self::hurry`] and
    /// [`Self::release`].
    pub fn add(&mut self, key: K, cause: Cause) {
        let slot = self.slots.entry(key.clone()).or_default();
        slot.cause = cause;
        if slot.in_flight || slot.resting {
            slot.dirty = true;
        } else if !slot.ready && !slot.quarantined && slot.failures + slot.panics == 0 {
            if let Some(due) = slot.due.take() {
                self.due.remove(&due);
            }
            self.make_ready(key);
        } else if !slot.ready && slot.due.is_none() && !slot.quarantined {
            self.make_ready(key);
        }
    }

    /// Lines a key up to be worked on.
    fn make_ready(&mut self, key: K) {
        let slot = self.slots.get_mut(&key).expect("whoever makes a key ready has its slot");
        slot.ready = true;
        slot.since = self.metrics.map(|_| Since::now());
        self.ready.push(&key.turn().clone(), key);
        if let Some(metrics) = &self.metrics {
            metrics.added();
            metrics.depth(self.ready.len());
        }
    }

    /// Wants `key` worked on after `delay`; an earlier appointment stands.
    pub fn add_after(&mut self, key: K, delay: Duration, cause: Cause, now: Instant) {
        let slot = self.slots.entry(key.clone()).or_default();
        let is_aside = slot.quarantined && !slot.in_flight && slot.due.is_none();
        if slot.ready || is_aside {
            return;
        }
        slot.cause = cause;
        let at = instant_after(now, delay);
        if slot.resting {
            slot.again = Some(slot.again.map_or(at, |again| again.min(at)));
            return;
        }
        self.appoint(key, at);
    }

    /// Whether a key backs off until after `at`.
    pub fn backs_off_beyond(&self, key: &K, at: Instant) -> bool {
        let backs_off = |slot: &Slot| slot.failures + slot.panics > 0 && !slot.quarantined && !slot.in_flight && !slot.ready;
        self.slots.get(key).is_some_and(|slot| backs_off(slot) && slot.due.is_some_and(|(due, _)| due > at))
    }

    /// Lets a key that backs off wait until `at` at most. What it failed at before still counts.
    pub fn hurry(&mut self, key: &K, at: Instant) {
        if self.backs_off_beyond(key, at) {
            self.appoint(key.clone(), at);
        }
    }

    fn appoint(&mut self, key: K, at: Instant) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        match slot.due {
            Some((due, _)) if due <= at => return,
            Some(due) => drop(self.due.remove(&due)),
            None => {}
        }
        self.sequence += 1;
        slot.due = Some((at, self.sequence));
        self.due.insert((at, self.sequence), key);
    }

    /// The next key to work on; it is in flight until [`Self::done`].
    pub fn next(&mut self, now: Instant) -> Option<(K, Cause)> {
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            let slot = self.slots.get_mut(&key).expect("an appointed key has a slot");
            slot.due = None;
            if slot.in_flight {
                slot.dirty = true;
            } else if slot.resting {
                self.end_rest(key);
            } else if !slot.ready {
                self.make_ready(key);
            }
        }
        let key = self.ready.pop()?;
        let slot = self.slots.get_mut(&key).expect("a ready key has a slot");
        slot.ready = false;
        slot.in_flight = true;
        self.in_flight += 1;
        if let Some(metrics) = &self.metrics {
            metrics.depth(self.ready.len());
            slot.since = Some(metrics.begun(slot.since));
        }
        Some((key, slot.cause.clone()))
    }

    /// Lines up what was added to a key at rest.
    fn end_rest(&mut self, key: K) {
        let slot = self.slots.get_mut(&key).expect("a key at rest has a slot");
        slot.resting = false;
        let again = slot.again.take();
        if std::mem::take(&mut slot.dirty) {
            self.make_ready(key);
        } else if let Some(at) = again {
            self.appoint(key, at);
        } else {
            self.slots.remove(&key);
        }
    }

    /// When the next delayed key is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Ends an attempt; `true` when the key just went into quarantine.
    pub fn done(&mut self, key: &K, verdict: Verdict, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        if !std::mem::take(&mut slot.in_flight) {
            return false;
        }
        self.in_flight -= 1;
        if let (Some(metrics), Some(since)) = (&self.metrics, slot.since.take()) {
            metrics.ended(since);
        }
        let dirty = std::mem::take(&mut slot.dirty);
        match verdict {
            Verdict::Done | Verdict::RequeueAfter(_) | Verdict::Rest { .. } => (slot.failures, slot.panics, slot.quarantined) = (0, 0, false),
            Verdict::Failed => slot.failures += 1,
            Verdict::Panicked => slot.panics += 1,
        }
        match verdict {
            Verdict::Done | Verdict::RequeueAfter(_) if dirty => {
                self.make_ready(key.clone());
                if let Verdict::RequeueAfter(delay) = verdict {
                    self.appoint(key.clone(), instant_after(now, delay));
                }
                false
            }
            Verdict::Done => {
                if slot.due.is_none() {
                    self.slots.remove(key);
                }
                false
            }
            Verdict::RequeueAfter(delay) => {
                self.appoint(key.clone(), instant_after(now, delay));
                false
            }
            Verdict::Rest { least, again_after } => {
                let appointed = slot.due.take();
                let again = again_after.map(|delay| instant_after(now, delay));
                (slot.dirty, slot.resting) = (dirty, true);
                slot.again = again.into_iter().chain(appointed.map(|(at, _)| at)).min();
                if let Some(due) = appointed {
                    self.due.remove(&due);
                }
                self.appoint(key.clone(), instant_after(now, least));
                false
            }
            Verdict::Failed | Verdict::Panicked => self.retry(key, now),
        }
    }

    fn retry(&mut self, key: &K, now: Instant) -> bool {
        let policy = self.policy;
        let slot = self.slots.get_mut(key).expect("checked by the caller");
        let poisoned = slot.failures >= policy.failures || slot.panics >= policy.panics;
        if let Some(metrics) = &self.metrics {
            metrics.retried();
        }
        let newly = poisoned && !slot.quarantined;
        slot.quarantined = poisoned;
        if let Some(due) = slot.due.take() {
            self.due.remove(&due);
        }
        let attempts = slot.failures + slot.panics;
        let backoff = policy.backoff.saturating_mul(1 << (attempts - 1).min(24)).min(policy.max_backoff);
        self.appoint(key.clone(), now + if poisoned { policy.quarantine } else { backoff });
        newly
    }

    /// Whether a key is in quarantine.
    pub fn is_quarantined(&self, key: &K) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.quarantined)
    }

    /// Sets a key aside until it is released: it is not tried meanwhile.
    pub fn set_aside(&mut self, key: K) {
        let slot = self.slots.entry(key.clone()).or_default();
        slot.quarantined = true;
        slot.panics = slot.panics.max(self.policy.panics);
        if std::mem::take(&mut slot.resting) {
            (slot.dirty, slot.again) = (false, None);
        }
        if let Some(due) = slot.due.take() {
            self.due.remove(&due);
        }
        if std::mem::take(&mut slot.ready) {
            self.ready.remove(key.turn(), &key);
        }
    }

    /// Takes a key out of quarantine, as if it had never failed, and wants it worked on.
    pub fn release(&mut self, key: &K) {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.quarantined) else { return };
        (slot.failures, slot.panics, slot.quarantined) = (0, 0, false);
        if slot.in_flight {
            slot.dirty = true;
            return;
        }
        if let Some(due) = slot.due.take() {
            self.due.remove(&due);
        }
        if !slot.ready {
            self.make_ready(key.clone());
        }
    }

    /// Keys that can run now.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Keys that wait for their time.
    pub fn delayed(&self) -> usize {
        self.due.len()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Keys in quarantine, in order.
    pub fn quarantined(&self) -> BTreeSet<&K> {
        self.slots.iter().filter(|(_, slot)| slot.quarantined).map(|(key, _)| key).collect()
    }

    /// How often a key failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.slots.get(key).map_or(0, |slot| slot.failures + slot.panics)
    }
}

#[cfg(test)]
mod tests;

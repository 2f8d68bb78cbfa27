//! The scheduling queue: active (by priority, then age), backoff, unschedulable. Pure; time is an input.

mod backoff;
mod hints;
mod in_flight;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use troupe_api::meta::ObjectKey;

pub use self::{
    backoff::Backoffs,
    hints::{EXTENDER, HintContext},
};
use self::{
    backoff::{BackoffQueue, Rank, Rest},
    hints::{NOBODY, is_woken, may_be_looked_at, names},
    in_flight::InFlightEvents,
};
use super::{
    framework::{ClusterChange, Profiles},
    metrics,
};

/// An unschedulable pod is tried again after this time even if nothing changed.
const UNSCHEDULABLE_PATIENCE: Duration = Duration::from_secs(300);

/// Upstream's name of the event that puts pods back after an attempt.
const ATTEMPT_FAILED: &str = "ScheduleAttemptFailure";

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Rest),
    Unschedulable {
        since: Instant,
        rejected_by: Vec<&'static str>,
    },
    /// Others are being removed for it: it is tried again when that is done, if something changed since.
    Held {
        since: Instant,
        rejected_by: Vec<&'static str>,
        woken: bool,
    },
    /// Not to be looked at until it changes, or what the plugin looks at that does not let it in.
    Gated {
        by: Option<&'static str>,
    },
    /// Popped, and nothing was decided yet.
    InFlight,
    /// It has a node, and is being bound.
    Binding,
}

#[derive(Clone, Debug)]
struct Entry {
    priority: i32,
    /// Order of arrival among pods of equal priority.
    arrival: u64,
    attempts: u32,
    /// When it came in.
    since: Instant,
    /// How long it rests after a failed attempt at least, and then in any case.
    rest: Duration,
    place: Place,
}

impl Entry {
    fn rank(&self) -> Rank {
        (Reverse(self.priority), self.arrival)
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct SchedulingQueue {
    backoffs: Backoffs,
    pods: HashMap<ObjectKey, Entry>,
    active: BTreeSet<(Rank, ObjectKey)>,
    backoff: BackoffQueue,
    arrivals: u64,
    /// How many are unschedulable.
    stuck: usize,
    gated: usize,
    /// Pods that wait for changes, by the plugins that rejected them or do not let them in: a change is compared with those that it may concern.
    rejected: BTreeMap<&'static str, HashSet<ObjectKey>>,
    in_flight: HashMap<ObjectKey, InFlightEvents>,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueDepth {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

impl SchedulingQueue {
    pub fn new(backoffs: Backoffs) -> Self {
        SchedulingQueue { backoffs, ..SchedulingQueue::default() }
    }

    /// A pod without a node appeared, or is to be tried again: an unschedulable one moves back.
    pub fn upsert(&mut self, key: ObjectKey, priority: i32, now: Instant) {
        let Some(entry) = self.pods.get_mut(&key) else { return self.insert(key, priority, Place::Active, now) };
        let changed_priority = entry.priority != priority;
        match &mut entry.place {
            Place::InFlight => self.in_flight.entry(key).or_default().retry = true,
            Place::Held { woken, .. } => {
                *woken = true;
                entry.priority = priority;
            }
            Place::Unschedulable { .. } => {
                entry.priority = priority;
                self.requeue(&key, "UnscheduledPodUpdate", now);
            }
            Place::Active if changed_priority => {
                self.active.remove(&(entry.rank(), key.clone()));
                entry.priority = priority;
                self.active.insert((entry.rank(), key));
            }
            Place::Backoff(rest) if changed_priority => {
                let rest = *rest;
                self.backoff.remove(rest, entry.rank());
                entry.priority = priority;
                self.backoff.insert(key, rest, entry.rank());
            }
            Place::Gated { .. } => {
                entry.priority = priority;
                self.let_in(&key, "UnscheduledPodUpdate");
            }
            Place::Active | Place::Backoff(_) | Place::Binding => entry.priority = priority,
        }
    }

    /// A pod without a node changed. One that was rejected is tried again where that may help it.
    pub fn updated(&mut self, key: &ObjectKey, priority: i32, change: ClusterChange, with: &HintContext<'_>, now: Instant) {
        let Some(entry) = self.pods.get_mut(key) else { return self.upsert(key.clone(), priority, now) };
        match &mut entry.place {
            Place::InFlight => self.in_flight.entry(key.clone()).or_default().note(Arc::new(change)),
            Place::Unschedulable { rejected_by, .. } | Place::Held { rejected_by, .. } if !is_woken(rejected_by, &change, key, with) => {
                entry.priority = priority;
            }
            _ => self.upsert(key.clone(), priority, now),
        }
    }

    /// A pod that must not be looked at appeared or changed. The plugin that does not let it in, if that looks at changes, is asked again after
    /// each that may help.
    pub fn gate(&mut self, key: ObjectKey, priority: i32, by: Option<&'static str>, now: Instant) {
        match self.pods.get_mut(&key) {
            Some(Entry { priority: known, place: Place::Gated { by: plugin }, .. }) => {
                *known = priority;
                if let Some(before) = std::mem::replace(plugin, by) {
                    self.waits_no_more(&key, &[before]);
                }
            }
            _ => {
                self.remove(&key);
                self.insert(key.clone(), priority, Place::Gated { by }, now);
            }
        }
        if let Some(plugin) = by {
            self.rejected.entry(plugin).or_default().insert(key);
        }
    }

    /// A gated pod may be looked at.
    fn let_in(&mut self, key: &ObjectKey, event: &'static str) {
        let Some(Entry { place: Place::Gated { by }, .. }) = self.pods.get(key) else { return };
        self.is_gated_no_more(key, *by);
        self.activate(key, event);
    }

    fn is_gated_no_more(&mut self, key: &ObjectKey, by: Option<&'static str>) {
        self.gated -= 1;
        if let Some(plugin) = by {
            self.waits_no_more(key, &[plugin]);
        }
    }

    fn insert(&mut self, key: ObjectKey, priority: i32, place: Place, now: Instant) {
        self.arrivals += 1;
        let entry = Entry { priority, arrival: self.arrivals, attempts: 0, since: now, rest: Duration::ZERO, place };
        if matches!(entry.place, Place::Gated { .. }) {
            self.gated += 1;
            metrics::incoming("gated", "UnscheduledPodAdd");
        } else {
            self.active.insert((entry.rank(), key.clone()));
            metrics::incoming("active", "UnscheduledPodAdd");
        }
        self.pods.insert(key, entry);
    }

    /// The pod is gone or has a node.
    pub fn remove(&mut self, key: &ObjectKey) {
        let Some(entry) = self.pods.remove(key) else { return };
        match entry.place {
            Place::Active => drop(self.active.remove(&(entry.rank(), key.clone()))),
            Place::Backoff(rest) => drop(self.backoff.remove(rest, entry.rank())),
            Place::Unschedulable { rejected_by, .. } | Place::Held { rejected_by, .. } => self.is_stuck_no_more(key, &rejected_by),
            Place::Gated { by } => self.is_gated_no_more(key, by),
            Place::InFlight => drop(self.in_flight.remove(key)),
            Place::Binding => {}
        }
    }

    /// How long a pod has been here, and how often it was tried.
    pub fn history(&self, key: &ObjectKey, now: Instant) -> Option<(Duration, u32)> {
        self.pods.get(key).map(|entry| (now.saturating_duration_since(entry.since), entry.attempts))
    }

    /// Takes the most urgent pod out for an attempt; where none is active, one that rests and that a change may have helped.
    pub fn pop(&mut self, now: Instant) -> Option<ObjectKey> {
        while let Some(key) = self.backoff.ended(now).cloned() {
            self.end_backoff(&key, "BackoffComplete");
        }
        if self.active.is_empty()
            && let Some(key) = self.backoff.first_early().cloned()
        {
            self.end_backoff(&key, "PopFromBackoffQ");
        }
        let (_, key) = self.active.pop_first()?;
        self.take_out(&key);
        Some(key)
    }

    /// Takes a pod out for an attempt together with another one, before its turn; `false` if it cannot be looked at now.
    pub fn pop_early(&mut self, key: &ObjectKey) -> bool {
        let Some(entry) = self.pods.get(key) else { return false };
        match entry.place {
            Place::Active => drop(self.active.remove(&(entry.rank(), key.clone()))),
            Place::Backoff(rest) => drop(self.backoff.remove(rest, entry.rank())),
            Place::Unschedulable { .. } => self.end_wait(key),
            Place::Held { .. } | Place::Gated { .. } | Place::InFlight | Place::Binding => return false,
        }
        self.take_out(key);
        true
    }

    fn take_out(&mut self, key: &ObjectKey) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        entry.attempts += 1;
        entry.place = Place::InFlight;
        self.in_flight.insert(key.clone(), InFlightEvents::default());
    }

    /// Where a pod stands among others: the most urgent has the least.
    pub fn rank(&self, key: &ObjectKey) -> Option<(Reverse<i32>, u64)> {
        self.pods.get(key).map(Entry::rank)
    }

    /// The attempt found a node.
    pub fn binding(&mut self, key: &ObjectKey) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        if entry.place == Place::InFlight {
            entry.place = Place::Binding;
            self.in_flight.remove(key);
        }
    }

    /// Whether an attempt on the pod has not come to its end.
    pub fn is_in_flight(&self, key: &ObjectKey) -> bool {
        self.in_flight.contains_key(key)
    }

    /// The attempt found no node. The pod waits for a change that may help, or goes to backoff if one came meanwhile. If it is `held`,
    /// it stays in any case until [`SchedulingQueue::unhold`]. `pod` tells what the pod is now.
    pub fn unschedulable(&mut self, key: &ObjectKey, rejected_by: Vec<&'static str>, held: bool, with: &HintContext<'_>, now: Instant) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        if entry.place != Place::InFlight {
            return;
        }
        let InFlightEvents { changes, retry } = self.in_flight.remove(key).unwrap_or_default();
        let woken = retry || changes.iter().any(|change| is_woken(&rejected_by, change, key, with));
        // One that is held and woken is compared with no further changes.
        for plugin in names(&rejected_by).into_iter().filter(|_| !(held && woken)) {
            self.rejected.entry(plugin).or_default().insert(key.clone());
        }
        self.stuck += 1;
        metrics::incoming("unschedulable", ATTEMPT_FAILED);
        entry.place = if held { Place::Held { since: now, rejected_by, woken } } else { Place::Unschedulable { since: now, rejected_by } };
        if woken && !held {
            self.requeue(key, ATTEMPT_FAILED, now);
        }
    }

    /// What a pod was held for is done; with `retry` it is tried again even if nothing changed. Where something did, room was made for it, and it
    /// goes at once: others that want that room come to their turns, too.
    pub fn unhold(&mut self, key: &ObjectKey, retry: bool, now: Instant) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        if let Place::Held { since, rejected_by, woken } = &mut entry.place {
            let woken = *woken;
            entry.place = Place::Unschedulable { since: *since, rejected_by: std::mem::take(rejected_by) };
            if woken && entry.rest.is_zero() {
                self.end_wait(key);
                self.activate(key, "AssignedPodDelete");
            } else if woken || retry {
                self.requeue(key, "AssignedPodDelete", now);
            }
        }
    }

    fn is_stuck_no_more(&mut self, key: &ObjectKey, rejected_by: &[&'static str]) {
        self.stuck -= 1;
        self.waits_no_more(key, rejected_by);
    }

    /// Changes are not compared with a pod any more.
    fn waits_no_more(&mut self, key: &ObjectKey, rejected_by: &[&'static str]) {
        for plugin in names(rejected_by) {
            if let Some(keys) = self.rejected.get_mut(plugin) {
                keys.remove(key);
                if keys.is_empty() {
                    self.rejected.remove(plugin);
                }
            }
        }
    }

    /// The attempt failed for a reason outside the pod (a lost race, an API error): try again after backoff.
    pub fn failed(&mut self, key: &ObjectKey, now: Instant) {
        if let Some(entry) = self.pods.get(key) {
            self.set_aside(key, now + self.rest_of(entry));
        }
    }

    fn rest_of(&self, entry: &Entry) -> Duration {
        self.backoffs.after(entry.attempts).max(entry.rest)
    }

    /// An attempt on the pod is costly: it rests so long after one that fails, or for its backoff if that is longer.
    pub fn rests(&mut self, key: &ObjectKey, rest: Duration) {
        if let Some(entry) = self.pods.get_mut(key) {
            entry.rest = rest;
        }
    }

    /// No further attempt before `until`, unless the pod is released.
    pub fn set_aside(&mut self, key: &ObjectKey, until: Instant) {
        if self.pods.get(key).is_some_and(|entry| matches!(entry.place, Place::InFlight | Place::Binding)) {
            self.in_flight.remove(key);
            self.begin_backoff(key, Rest { until, may_end_early: false }, ATTEMPT_FAILED);
        }
    }

    /// Ends a pod's backoff.
    pub fn release(&mut self, key: &ObjectKey) {
        self.end_backoff(key, "UnscheduledPodUpdate");
    }

    /// The cluster changed: pods that it may help get an attempt.
    pub fn cluster_changed(&mut self, change: ClusterChange, with: &HintContext<'_>, now: Instant) {
        let change = Arc::new(change);
        // A pod that loses the place it just got does not help itself.
        let own = match &*change {
            ClusterChange::PodRemoved(pod) => Some(pod.key().clone()),
            _ => None,
        };
        for (_, in_flight) in self.in_flight.iter_mut().filter(|(key, _)| Some(*key) != own.as_ref()) {
            in_flight.note(change.clone());
        }
        let of_gated = HintContext { profiles: with.profiles, pod: with.whole, whole: with.whole };
        for key in self.concerned(&change, with.profiles) {
            let Some(entry) = self.pods.get_mut(&key) else { continue };
            match &mut entry.place {
                Place::Unschedulable { rejected_by, .. } if is_woken(rejected_by, &change, &key, with) => {
                    self.requeue(&key, change.event().name(), now);
                }
                Place::Held { rejected_by, woken, .. } if !*woken && is_woken(rejected_by, &change, &key, with) => {
                    *woken = true;
                    // No further change can do more for it: many pods may be held while much changes.
                    let rejected_by = rejected_by.clone();
                    self.waits_no_more(&key, &rejected_by);
                }
                Place::Gated { by: Some(by) } if is_woken(&[*by], &change, &key, &of_gated) && may_be_looked_at(&key, &of_gated) => {
                    self.let_in(&key, change.event().name());
                }
                _ => {}
            }
        }
    }

    /// Pods that plugins rejected which look at such changes, in order.
    fn concerned(&self, change: &ClusterChange, profiles: &Profiles) -> BTreeSet<ObjectKey> {
        if self.rejected.is_empty() {
            return BTreeSet::new();
        }
        let looking = profiles.looking_at(change.event()).into_iter();
        looking.chain([NOBODY, EXTENDER]).filter_map(|plugin| self.rejected.get(plugin)).flatten().cloned().collect()
    }

    /// Gives pods that have waited very long another attempt.
    pub fn flush_long_waiting(&mut self, now: Instant) {
        let long = |entry: &Entry| matches!(entry.place, Place::Unschedulable { since, .. } if now.duration_since(since) >= UNSCHEDULABLE_PATIENCE);
        let woken: Vec<ObjectKey> = self.pods.iter().filter(|(_, entry)| long(entry)).map(|(key, _)| key.clone()).collect();
        for key in woken {
            self.requeue(&key, "UnschedulableTimeout", now);
        }
    }

    /// When the next backoff ends.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.backoff.next_end()
    }

    pub fn depth(&self) -> QueueDepth {
        QueueDepth { active: self.active.len(), backoff: self.backoff.len(), unschedulable: self.stuck, gated: self.gated }
    }

    /// Moves an unschedulable pod on: to backoff while its backoff since the last attempt lasts, else to active.
    fn requeue(&mut self, key: &ObjectKey, event: &'static str, now: Instant) {
        let Some(entry) = self.pods.get(key) else { return };
        let Place::Unschedulable { since, .. } = entry.place else { return };
        let rest = Rest { until: since + self.rest_of(entry), may_end_early: self.backoffs.cut_short && entry.rest.is_zero() };
        self.end_wait(key);
        if rest.until <= now { self.activate(key, event) } else { self.begin_backoff(key, rest, event) }
    }

    /// An unschedulable pod waits for changes no more.
    fn end_wait(&mut self, key: &ObjectKey) {
        if let Some(Entry { place: Place::Unschedulable { rejected_by, .. }, .. }) = self.pods.get_mut(key) {
            let rejected_by = std::mem::take(rejected_by);
            self.is_stuck_no_more(key, &rejected_by);
        }
    }

    fn begin_backoff(&mut self, key: &ObjectKey, rest: Rest, event: &'static str) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        entry.place = Place::Backoff(rest);
        self.backoff.insert(key.clone(), rest, entry.rank());
        metrics::incoming("backoff", event);
    }

    fn end_backoff(&mut self, key: &ObjectKey, event: &'static str) {
        let Some(entry) = self.pods.get(key) else { return };
        if let Place::Backoff(rest) = entry.place {
            self.backoff.remove(rest, entry.rank());
            self.activate(key, event);
        }
    }

    fn activate(&mut self, key: &ObjectKey, event: &'static str) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        entry.place = Place::Active;
        self.active.insert((entry.rank(), key.clone()));
        metrics::incoming("active", event);
    }
}

#[cfg(test)]
mod tests;

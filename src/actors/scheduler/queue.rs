//! The scheduling queue: active (by priority, then age), backoff, unschedulable. Pure; time is an input.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use troupe_api::meta::ObjectKey;

use super::{
    framework::{ClusterChange, Plugin},
    metrics,
};

/// First backoff after a failed attempt; doubles with each further one.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// Longest backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// An unschedulable pod is tried again after this time even if nothing changed.
const UNSCHEDULABLE_PATIENCE: Duration = Duration::from_secs(300);

/// Upstream's name of the event that puts pods back after an attempt.
const ATTEMPT_FAILED: &str = "ScheduleAttemptFailure";

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Instant),
    Unschedulable {
        since: Instant,
        rejected_by: Vec<&'static str>,
    },
    /// Popped; a change that came meanwhile is remembered.
    InFlight {
        changes: Vec<ClusterChange>,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    priority: i32,
    /// Order of arrival among pods of equal priority.
    arrival: u64,
    attempts: u32,
    /// When it came in.
    since: Instant,
    place: Place,
}

/// The queue.
#[derive(Debug, Default)]
pub struct SchedulingQueue {
    pods: HashMap<ObjectKey, Entry>,
    active: BTreeSet<(Reverse<i32>, u64, ObjectKey)>,
    backoff: BTreeMap<(Instant, u64), ObjectKey>,
    arrivals: u64,
    /// How many are unschedulable.
    stuck: usize,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueDepth {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
}

impl SchedulingQueue {
    /// A pod without a node appeared or changed. A change moves an unschedulable pod back.
    pub fn upsert(&mut self, key: ObjectKey, priority: i32, now: Instant) {
        if let Some(entry) = self.pods.get_mut(&key) {
            let changed_priority = entry.priority != priority;
            match &mut entry.place {
                Place::InFlight { changes } => changes.push(ClusterChange::PodUpdated),
                Place::Unschedulable { .. } => {
                    entry.priority = priority;
                    self.requeue(&key, "UnscheduledPodUpdate", now);
                }
                Place::Active if changed_priority => {
                    self.active.remove(&(Reverse(entry.priority), entry.arrival, key.clone()));
                    entry.priority = priority;
                    self.active.insert((Reverse(priority), entry.arrival, key));
                }
                Place::Active | Place::Backoff(_) => entry.priority = priority,
            }
            return;
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.pods.insert(key.clone(), Entry { priority, arrival, attempts: 0, since: now, place: Place::Active });
        self.active.insert((Reverse(priority), arrival, key));
        metrics::incoming("active", "UnscheduledPodAdd");
    }

    /// The pod is gone or has a node.
    pub fn remove(&mut self, key: &ObjectKey) {
        let Some(entry) = self.pods.remove(key) else { return };
        match entry.place {
            Place::Active => drop(self.active.remove(&(Reverse(entry.priority), entry.arrival, key.clone()))),
            Place::Backoff(until) => drop(self.backoff.remove(&(until, entry.arrival))),
            Place::Unschedulable { .. } => self.stuck -= 1,
            Place::InFlight { .. } => {}
        }
    }

    /// How long a pod has been here, and how often it was tried.
    pub fn history(&self, key: &ObjectKey, now: Instant) -> Option<(Duration, u32)> {
        self.pods.get(key).map(|entry| (now.saturating_duration_since(entry.since), entry.attempts))
    }

    /// Takes the most urgent pod out for an attempt.
    pub fn pop(&mut self, now: Instant) -> Option<ObjectKey> {
        self.end_backoffs(now);
        let (_, _, key) = self.active.pop_first()?;
        let entry = self.pods.get_mut(&key).expect("every active key has an entry");
        entry.attempts += 1;
        entry.place = Place::InFlight { changes: Vec::new() };
        Some(key)
    }

    /// The attempt found no node. The pod waits for a change that may help, or goes to backoff if one came meanwhile.
    pub fn unschedulable(&mut self, key: &ObjectKey, rejected_by: Vec<&'static str>, plugins: &[Box<dyn Plugin>], now: Instant) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let Place::InFlight { changes } = &entry.place else { return };
        let helped = changes.iter().any(|change| *change == ClusterChange::PodUpdated || helps(plugins, &rejected_by, *change));
        entry.place = Place::Unschedulable { since: now, rejected_by };
        self.stuck += 1;
        metrics::incoming("unschedulable", ATTEMPT_FAILED);
        if helped {
            self.requeue(key, ATTEMPT_FAILED, now);
        }
    }

    /// The attempt failed for a reason outside the pod (a lost race, an API error): try again after backoff.
    pub fn failed(&mut self, key: &ObjectKey, now: Instant) {
        if let Some(entry) = self.pods.get(key) {
            self.set_aside(key, now + backoff(entry.attempts));
        }
    }

    /// No further attempt before `until`, unless the pod is released.
    pub fn set_aside(&mut self, key: &ObjectKey, until: Instant) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        if matches!(entry.place, Place::InFlight { .. }) {
            entry.place = Place::Backoff(until);
            self.backoff.insert((until, entry.arrival), key.clone());
            metrics::incoming("backoff", ATTEMPT_FAILED);
        }
    }

    /// Ends a pod's backoff.
    pub fn release(&mut self, key: &ObjectKey) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        if let Place::Backoff(until) = entry.place {
            self.backoff.remove(&(until, entry.arrival));
            entry.place = Place::Active;
            self.active.insert((Reverse(entry.priority), entry.arrival, key.clone()));
            metrics::incoming("active", "UnscheduledPodUpdate");
        }
    }

    /// The cluster changed: pods that it may help get another attempt.
    pub fn cluster_changed(&mut self, change: ClusterChange, plugins: &[Box<dyn Plugin>], now: Instant) {
        let mut woken = Vec::new();
        for (key, entry) in &mut self.pods {
            match &mut entry.place {
                Place::Unschedulable { rejected_by, .. } if rejected_by.is_empty() || helps(plugins, rejected_by, change) => woken.push(key.clone()),
                Place::InFlight { changes } if !changes.contains(&change) => changes.push(change),
                _ => {}
            }
        }
        for key in woken {
            self.requeue(&key, change.event(), now);
        }
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
        self.backoff.first_key_value().map(|((until, _), _)| *until)
    }

    pub fn depth(&self) -> QueueDepth {
        QueueDepth { active: self.active.len(), backoff: self.backoff.len(), unschedulable: self.stuck }
    }

    /// Moves an unschedulable pod on: to backoff while its backoff since the last attempt lasts, else to active.
    fn requeue(&mut self, key: &ObjectKey, event: &'static str, now: Instant) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let Place::Unschedulable { since, .. } = entry.place else { return };
        self.stuck -= 1;
        let until = since + backoff(entry.attempts);
        if until > now {
            entry.place = Place::Backoff(until);
            self.backoff.insert((until, entry.arrival), key.clone());
            metrics::incoming("backoff", event);
        } else {
            entry.place = Place::Active;
            self.active.insert((Reverse(entry.priority), entry.arrival, key.clone()));
            metrics::incoming("active", event);
        }
    }

    fn end_backoffs(&mut self, now: Instant) {
        while let Some(first) = self.backoff.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            let entry = self.pods.get_mut(&key).expect("every key in backoff has an entry");
            entry.place = Place::Active;
            self.active.insert((Reverse(entry.priority), entry.arrival, key));
            metrics::incoming("active", "BackoffComplete");
        }
    }
}

fn helps(plugins: &[Box<dyn Plugin>], rejected_by: &[&'static str], change: ClusterChange) -> bool {
    plugins.iter().any(|plugin| rejected_by.contains(&plugin.name()) && plugin.may_help(change))
}

fn backoff(attempts: u32) -> Duration {
    INITIAL_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests;

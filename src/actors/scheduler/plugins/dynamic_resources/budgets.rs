//! How much of the scheduler's time searches for devices take: while one goes on nobody else is scheduled. A namespace that has used up its
//! part has its devices searched aside until time has passed, so that pods of others wait a moment at most, however many it has.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// What a namespace may take at once, and of each second afterwards.
const OF_ONE: Part = Part { at_once: Duration::from_millis(200), of: 10 };
/// What all namespaces may take together.
const OF_ALL: Part = Part { at_once: Duration::from_millis(500), of: 2 };
/// More than that are not told apart: those that have used nothing of late are forgotten.
const MOST_NAMESPACES: usize = 1_000;

struct Part {
    at_once: Duration,
    /// One second in so many.
    of: u32,
}

/// What was taken and not given back yet, as of a moment.
#[derive(Clone, Copy)]
struct Used {
    taken: Duration,
    at: Instant,
}

impl Used {
    /// What is left of it by now.
    fn left(&self, part: &Part, now: Instant) -> Duration {
        self.taken.saturating_sub(now.saturating_duration_since(self.at) / part.of)
    }

    fn add(used: Option<Used>, took: Duration, part: &Part, now: Instant) -> Used {
        Used { taken: used.map_or(Duration::ZERO, |used| used.left(part, now)) + took, at: now }
    }
}

#[derive(Default)]
struct Known {
    by_namespace: HashMap<Arc<str>, Used>,
    all: Option<Used>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Budgets(Mutex<Known>);

impl Budgets {
    /// Whether the devices of a namespace's pods are searched aside for now.
    pub(super) fn is_spent(&self, namespace: &str, now: Instant) -> bool {
        let known = self.0.lock();
        let is_spent = |used: Option<&Used>, part: &Part| used.is_some_and(|used| used.left(part, now) >= part.at_once);
        is_spent(known.by_namespace.get(namespace), &OF_ONE) || is_spent(known.all.as_ref(), &OF_ALL)
    }

    /// A decision on a pod of a namespace was busy with devices for so long.
    pub(super) fn take(&self, namespace: &Arc<str>, took: Duration, now: Instant) {
        let mut known = self.0.lock();
        known.all = Some(Used::add(known.all, took, &OF_ALL, now));
        if known.by_namespace.len() >= MOST_NAMESPACES && !known.by_namespace.contains_key(namespace) {
            known.by_namespace.retain(|_, used| !used.left(&OF_ONE, now).is_zero());
            if known.by_namespace.len() >= MOST_NAMESPACES {
                return;
            }
        }
        let used = Used::add(known.by_namespace.get(namespace).copied(), took, &OF_ONE, now);
        known.by_namespace.insert(namespace.clone(), used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_takes_much_has_its_devices_searched_aside_for_a_while() {
        let (budgets, now, tenant) = (Budgets::default(), Instant::now(), Arc::<str>::from("tenant"));
        let (piece, mut pieces) = (Duration::from_millis(10), 0);
        while pieces < 1_000 && !budgets.is_spent("tenant", now) {
            budgets.take(&tenant, piece, now);
            pieces += 1;
        }
        assert_eq!(pieces, 20, "a fifth of a second, however many pods it has");
        assert!(!budgets.is_spent("victim", now));
        assert!(budgets.is_spent("tenant", now));
        assert!(!budgets.is_spent("tenant", now + Duration::from_millis(150)));
        budgets.take(&tenant, piece, now + Duration::from_millis(150));
        assert!(!budgets.is_spent("tenant", now + Duration::from_secs(10)));
    }

    #[test]
    fn many_namespaces_take_no_more_than_half_of_the_time_together() {
        let (budgets, now) = (Budgets::default(), Instant::now());
        for number in 0..5_000 {
            let namespace: Arc<str> = format!("n{number}").into();
            if !budgets.is_spent(&namespace, now) {
                budgets.take(&namespace, Duration::from_millis(10), now);
            }
        }
        assert_eq!(budgets.0.lock().by_namespace.len(), 50);
        assert!(budgets.is_spent("another", now) && !budgets.is_spent("another", now + Duration::from_millis(10)));
    }
}

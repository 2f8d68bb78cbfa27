//! Which thresholds are met and for how long, and under which pressure a node is by them: upstream's `synchronize`. Pure, by observations
//! and a clock from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::signals::{Met, Observation, Resource, Signal, Threshold};

/// Under which pressure a node is, as its conditions tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    Memory,
    Disk,
    Pids,
}

impl Condition {
    fn of(signal: Signal) -> Self {
        match signal.resource() {
            Resource::Memory => Condition::Memory,
            Resource::Storage | Resource::Inodes => Condition::Disk,
            Resource::Pids => Condition::Pids,
        }
    }
}

/// What is remembered of thresholds, which are known by their places.
#[derive(Clone, Debug)]
pub struct Tracker {
    thresholds: Vec<Threshold>,
    /// A condition holds for so long after a threshold of it was met last (upstream's `evictionPressureTransitionPeriod`).
    transition: Duration,
    first_met: BTreeMap<usize, Instant>,
    /// Those for which pods go: met for as long as they grant, and since then not resolved.
    driving: BTreeSet<usize>,
    seen: BTreeMap<Condition, Instant>,
}

/// What follows from a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Thresholds for which pods go, hard ones first.
    pub met: Vec<Met>,
    pub conditions: BTreeSet<Condition>,
}

impl Tracker {
    pub fn new(thresholds: Vec<Threshold>, transition: Duration) -> Self {
        Tracker { thresholds, transition, first_met: BTreeMap::new(), driving: BTreeSet::new(), seen: BTreeMap::new() }
    }

    pub fn thresholds(&self) -> &[Threshold] {
        &self.thresholds
    }

    /// Takes in what is free by now; thresholds whose signal nobody observes are not met.
    pub fn look(&mut self, observe: impl Fn(Signal) -> Option<Observation>, now: Instant) -> Verdict {
        let mut met = BTreeMap::new();
        for (at, threshold) in self.thresholds.iter().enumerate() {
            let Some(observed) = observe(threshold.signal) else { continue };
            let least = threshold.least.of(observed.capacity);
            let reclaimed = least.saturating_add(threshold.reclaim.map_or(0, |more| more.of(observed.capacity)));
            if observed.available < least || (self.driving.contains(&at) && observed.available < reclaimed) {
                met.insert(at, Met { signal: threshold.signal, threshold: least, available: observed.available, hard: threshold.is_hard() });
            }
        }
        self.first_met = met.keys().map(|at| (*at, self.first_met.get(at).copied().unwrap_or(now))).collect();
        self.seen.extend(met.values().map(|met| (Condition::of(met.signal), now)));
        let is_due = |at: usize, since: Instant| now.saturating_duration_since(since) >= self.thresholds[at].grace;
        self.driving = self.first_met.iter().filter(|(at, since)| is_due(**at, **since)).map(|(at, _)| *at).collect();
        let mut due: Vec<Met> = self.driving.iter().map(|at| met[at]).collect();
        due.sort_by_key(|met| !met.hard);
        let holds = |seen: Instant| seen == now || now.saturating_duration_since(seen) < self.transition;
        let conditions = self.seen.iter().filter(|(_, seen)| holds(**seen)).map(|(condition, _)| *condition).collect();
        Verdict { met: due, conditions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::eviction::signals::Amount;

    const TRANSITION: Duration = Duration::from_secs(60);

    fn memory(available: u64) -> impl Fn(Signal) -> Option<Observation> {
        move |signal| (signal == Signal::MemoryAvailable).then_some(Observation { capacity: 1000, available })
    }

    fn tracker(thresholds: &[Threshold]) -> (Tracker, impl Fn(u64) -> Instant + use<>) {
        let start = Instant::now();
        (Tracker::new(thresholds.to_vec(), TRANSITION), move |second| start + Duration::from_secs(second))
    }

    fn soft(least: u64, seconds: u64) -> Threshold {
        Threshold { grace: Duration::from_secs(seconds), ..Threshold::hard(Signal::MemoryAvailable, Amount::Absolute(least)) }
    }

    #[test]
    fn a_soft_threshold_drives_pods_out_when_it_was_met_without_a_break_for_its_grace_period() {
        let (mut tracker, at) = tracker(&[soft(300, 30)]);
        let first = tracker.look(memory(299), at(0));
        assert_eq!((first.met.len(), first.conditions.contains(&Condition::Memory)), (0, true), "the condition comes at once");
        assert!(tracker.look(memory(300), at(20)).met.is_empty());
        assert!(tracker.look(memory(299), at(29)).met.is_empty());
        assert!(tracker.look(memory(299), at(58)).met.is_empty(), "it began anew");
        let met = tracker.look(memory(250), at(59)).met;
        assert_eq!(met, [Met { signal: Signal::MemoryAvailable, threshold: 300, available: 250, hard: false }]);
        assert!(tracker.look(memory(300), at(60)).met.is_empty());
    }

    #[test]
    fn a_threshold_that_drove_pods_out_ends_when_enough_was_reclaimed() {
        let reclaim = Some(Amount::Percent(10.0));
        let hard = Threshold { reclaim, ..Threshold::hard(Signal::MemoryAvailable, Amount::Absolute(100)) };
        let (mut tracker, at) = tracker(&[hard]);
        assert!(tracker.look(memory(150), at(0)).met.is_empty(), "more than the threshold is free");
        assert_eq!(tracker.look(memory(99), at(1)).met.len(), 1);
        let still = tracker.look(memory(199), at(2));
        assert_eq!(still.met.first().map(|met| (met.threshold, met.available)), Some((100, 199)), "the threshold itself is told");
        assert!(tracker.look(memory(200), at(3)).met.is_empty());
        assert!(tracker.look(memory(150), at(4)).met.is_empty(), "it has ended");
    }

    #[test]
    fn a_soft_threshold_that_was_not_yet_due_has_nothing_to_reclaim() {
        let (mut tracker, at) = tracker(&[Threshold { reclaim: Some(Amount::Absolute(500)), ..soft(300, 30) }]);
        tracker.look(memory(299), at(0));
        assert!(tracker.look(memory(400), at(1)).met.is_empty());
        assert!(tracker.look(memory(400), at(40)).met.is_empty());
    }

    #[test]
    fn conditions_outlast_their_cause_by_the_transition_period_and_each_has_its_own() {
        let pids = Threshold::hard(Signal::PidAvailable, Amount::Percent(10.0));
        let (mut tracker, at) = tracker(&[soft(100, 0), pids]);
        let both = |memory: u64, pids: u64| {
            move |signal: Signal| {
                let available = if signal == Signal::PidAvailable { pids } else { memory };
                Some(Observation { capacity: 1000, available })
            }
        };
        let verdict = tracker.look(both(99, 99), at(0));
        assert_eq!(verdict.conditions, [Condition::Memory, Condition::Pids].into());
        assert_eq!(verdict.met.iter().map(|met| met.signal.resource()).collect::<Vec<_>>(), [Resource::Memory, Resource::Pids]);
        let verdict = tracker.look(both(99, 100), at(30));
        assert_eq!((verdict.met.len(), verdict.conditions.len()), (1, 2));
        assert_eq!(tracker.look(both(100, 100), at(60)).conditions, [Condition::Memory].into());
        assert!(tracker.look(both(100, 100), at(90)).conditions.is_empty());
    }

    #[test]
    fn hard_thresholds_come_before_soft_ones() {
        let (mut tracker, at) = tracker(&[soft(300, 10), soft(100, 0)]);
        tracker.look(memory(50), at(0));
        let met = tracker.look(memory(50), at(10)).met;
        assert_eq!(met.iter().map(|met| (met.hard, met.threshold)).collect::<Vec<_>>(), [(true, 100), (false, 300)]);
        assert!(tracker.look(|_| None, at(11)).met.is_empty(), "nothing is known");
    }
}

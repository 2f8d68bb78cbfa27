//! Whether the proxy keeps up: a change that waits too long for its rules means that it does not. There is one proxy in a process.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use troupe_net::iptables::Family;

/// Upstream's: two of its periods.
const TIMEOUT: Duration = Duration::from_secs(60);

const NEW: State = State { updated: None, waiting: None };

/// By family.
static STATES: RwLock<[State; 2]> = RwLock::new([NEW, NEW]);

/// When rules were last written, and since when something waits for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub updated: Option<Timestamp>,
    pub waiting: Option<Timestamp>,
}

impl State {
    /// What is known now of the families whose rules were written at least once.
    pub fn by_family() -> Vec<(Family, State)> {
        let known = Family::ALL.into_iter().zip(*STATES.read());
        known.filter(|(_, state)| state.updated.is_some()).collect()
    }

    /// What is known now of all families: the one that is furthest behind counts.
    pub fn now() -> State {
        let states = State::by_family();
        let (updated, waiting) =
            (states.iter().filter_map(|(_, state)| state.updated).min(), states.iter().filter_map(|(_, state)| state.waiting).min());
        State { updated, waiting }
    }

    /// Something changed that is not in the rules yet.
    pub fn queue(&mut self, now: Timestamp) {
        self.waiting.get_or_insert(now);
    }

    /// All that was known is in the rules.
    pub fn update(&mut self, now: Timestamp) {
        *self = State { updated: Some(now), waiting: None };
    }

    /// Nothing waits for too long. While the proxy starts it counts as healthy.
    pub fn is_healthy(&self, now: Timestamp) -> bool {
        let late = |since: Timestamp| now.duration_since(since).unsigned_abs() >= TIMEOUT;
        self.updated.is_none() || !self.waiting.is_some_and(late)
    }
}

/// A change waits for its rules.
pub fn queued(family: Family) {
    STATES.write()[family as usize].queue(Timestamp::now());
}

/// Rules were written.
pub fn updated(family: Family) {
    STATES.write()[family as usize].update(Timestamp::now());
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn the_oldest_change_that_waits_counts() {
        let start = Timestamp::from_second(1_000).expect("a time");
        let at = |seconds| start + SignedDuration::from_secs(seconds);
        let mut state = State::default();
        state.queue(at(0));
        assert!(state.is_healthy(at(100)), "it starts");
        state.update(at(101));
        assert!(state.is_healthy(at(1_000)), "nothing waits");
        state.queue(at(1_000));
        state.queue(at(1_050));
        assert!(state.is_healthy(at(1_059)) && !state.is_healthy(at(1_060)));
        state.update(at(1_061));
        assert!(state.is_healthy(at(1_062)));
    }
}

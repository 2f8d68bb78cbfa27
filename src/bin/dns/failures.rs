//! Failures that may come with every query: they are told once a minute, and counted otherwise, so that no client fills the log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often failures of one kind are told, at most.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Failures of one kind.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    /// How many came since.
    untold: u64,
}

impl Failures {
    pub const fn new() -> Self {
        Failures(Mutex::new(Told { last: None, untold: 0 }))
    }

    /// Something failed; `what` says what, where that is to be told.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        match self.count(Instant::now()) {
            Some(0) => eprintln!("{}", what()),
            Some(untold) => eprintln!("{} (and {untold} others since this was last told)", what()),
            None => {}
        }
    }

    /// Something failed: how many failures were not told since one was, if this one is to be told.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock();
        if told.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_LINES) {
            told.untold += 1;
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_a_minute_with_how_many_there_were() {
        let (failures, start) = (Failures::new(), Instant::now());
        let after = |seconds: u64| failures.count(start + Duration::from_secs(seconds));
        assert_eq!((after(0), after(0), after(59)), (Some(0), None, None));
        assert_eq!((after(60), after(61), after(200)), (Some(2), None, Some(1)));
        assert_eq!(after(300), Some(0));
    }
}

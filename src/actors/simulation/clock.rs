//! Wall-clock time that follows the executor's paused time.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use troupe_api::meta::Clock;

/// Begins at 2030-01-01 and moves with paused time; somebody may set it.
#[derive(Debug)]
pub struct SimulatedClock {
    begun: Instant,
    epoch: Timestamp,
    /// How far it was set forward, or back.
    offset: Mutex<SignedDuration>,
}

impl SimulatedClock {
    /// Sets the wall clock forward, or back, as an administrator or a time server would. Durations go on as before.
    pub fn jump(&self, by: SignedDuration) {
        let mut offset = self.offset.lock();
        *offset = offset.saturating_add(by);
    }
}

impl Default for SimulatedClock {
    fn default() -> Self {
        let epoch = Timestamp::from_second(1_893_456_000).expect("a valid time");
        SimulatedClock { begun: tokio::time::Instant::now().into_std(), epoch, offset: Mutex::default() }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let passed = self.instant().saturating_duration_since(self.begun);
        let set = self.epoch.checked_add(*self.offset.lock());
        set.and_then(|time| time.checked_add(passed)).expect("simulations are short")
    }

    fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

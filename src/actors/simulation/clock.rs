//! Wall-clock time that follows the executor's paused time.

use std::time::Instant;

use jiff::Timestamp;
use troupe_api::meta::Clock;

/// Begins at 2030-01-01 and moves with paused time.
#[derive(Debug)]
pub struct SimulatedClock {
    begun: Instant,
    epoch: Timestamp,
}

impl Default for SimulatedClock {
    fn default() -> Self {
        let epoch = Timestamp::from_second(1_893_456_000).expect("a valid time");
        SimulatedClock { begun: tokio::time::Instant::now().into_std(), epoch }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let passed = self.instant().saturating_duration_since(self.begun);
        self.epoch.checked_add(passed).expect("simulations are short")
    }

    fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

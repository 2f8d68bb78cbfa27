//! How often something may be done: so often a second in the long run, and so many times at once after a pause.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// How often something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    /// At once after a pause.
    pub burst: u32,
}

/// What may be done by now. Pure, by a clock from outside.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl TokenBucket {
    pub fn new(rate: Rate, now: Instant) -> Self {
        let burst = f64::from(rate.burst.max(1));
        TokenBucket { per_second: f64::from(rate.per_second.get()), burst, left: burst, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.burst);
        self.at = now;
    }

    /// Takes one if it may be done now.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// Takes one, and says how long it has to wait.
    pub fn reserve(&mut self, now: Instant) -> Duration {
        self.fill(now);
        self.left -= 1.0;
        Duration::from_secs_f64((-self.left / self.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(now: Instant) -> TokenBucket {
        TokenBucket::new(Rate { per_second: NonZeroU32::new(2).expect("is not 0"), burst: 3 }, now)
    }

    #[test]
    fn a_burst_is_done_at_once_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut bucket = bucket(start);
        let at = |millis| start + Duration::from_millis(millis);
        let taken = [0, 0, 0, 0, 499, 500, 600, 10_000, 10_000, 10_000, 10_000].map(|millis| bucket.take(at(millis)));
        assert_eq!(taken, [true, true, true, false, false, true, false, true, true, true, false]);
    }

    #[test]
    fn who_waits_waits_for_those_before_too() {
        let start = Instant::now();
        let mut bucket = bucket(start);
        let waits = [0, 0, 0, 0, 0].map(|millis| bucket.reserve(start + Duration::from_millis(millis)).as_millis());
        assert_eq!(waits, [0, 0, 0, 500, 1000]);
        assert_eq!(bucket.reserve(start + Duration::from_secs(10)), Duration::ZERO);
    }
}

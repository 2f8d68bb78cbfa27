//! How fast processor time passes, from one look to the next of whoever asks.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;

/// Looks that follow each other faster tell little.
const SHORTEST: Duration = Duration::from_secs(1);

/// Those of this machine.
static RATES: Rates = Rates::new();

/// The last look at each counter.
#[derive(Debug, Default)]
pub struct Rates(Mutex<BTreeMap<String, Look>>);

#[derive(Clone, Copy, Debug)]
struct Look {
    taken: Timestamp,
    nanoseconds: u64,
    rate: Option<u64>,
}

/// Those of this machine: a process looks at one.
pub fn rates() -> &'static Rates {
    &RATES
}

impl Rates {
    pub const fn new() -> Self {
        Rates(Mutex::new(BTreeMap::new()))
    }

    /// Nanoseconds a second since the last look at a counter; `None` for the first one.
    pub fn look(&self, counter: &str, taken: Timestamp, nanoseconds: u64) -> Option<u64> {
        let mut looks = self.0.lock();
        let last = looks.get(counter).copied();
        let passed = last.and_then(|last| Duration::try_from(taken.duration_since(last.taken)).ok());
        let rate = match (last, passed) {
            (Some(last), None) => return last.rate,
            (Some(last), Some(passed)) if passed < SHORTEST => return last.rate,
            (Some(last), Some(passed)) => nanoseconds.checked_sub(last.nanoseconds).and_then(|more| a_second(more, passed)),
            (None, _) => None,
        };
        looks.insert(counter.to_owned(), Look { taken, nanoseconds, rate });
        rate
    }
}

fn a_second(nanoseconds: u64, passed: Duration) -> Option<u64> {
    u64::try_from((u128::from(nanoseconds) * 1_000_000_000).checked_div(passed.as_nanos())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_lie_between_two_looks() {
        let rates = Rates::new();
        let at = |milliseconds: i64| Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).expect("a time");
        assert_eq!(rates.look("/", at(0), 1_000), None, "there is nothing to compare with");
        assert_eq!(rates.look("/", at(2_000), 5_000_001_000), Some(2_500_000_000));
        assert_eq!(rates.look("/", at(2_500), 9_000_000_000), Some(2_500_000_000), "it is too early");
        assert_eq!(rates.look("/", at(1_000), 0), Some(2_500_000_000), "who looked earlier came later");
        assert_eq!(rates.look("/", at(4_000), 5_000_001_000), Some(0));
        assert_eq!(rates.look("/a", at(4_000), 1), None, "each counter has its own");
        assert_eq!(rates.look("/", at(6_000), 7), None, "it began anew");
    }
}

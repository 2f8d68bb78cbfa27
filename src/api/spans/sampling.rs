//! Which traces are sampled. Pure.

use std::collections::{HashMap, VecDeque};

/// Takes a part of all traces by their ids alone, as OpenTelemetry's `TraceIDRatioBased`: all who ask about one decide alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Of the 63 bits that decide, lower numbers are taken.
    bound: u64,
}

impl Sampler {
    /// Takes so many of a million traces; more than a million are all.
    pub fn per_million(rate: u32) -> Self {
        const MILLION: u128 = 1_000_000;
        let bound = u128::from(rate).min(MILLION) * (1 << 63) / MILLION;
        Sampler { bound: u64::try_from(bound).unwrap_or(u64::MAX) }
    }

    pub fn takes(self, trace: u128) -> bool {
        // The last eight bytes of the id.
        let random = u64::try_from(trace & u128::from(u64::MAX)).unwrap_or(u64::MAX);
        random >> 1 < self.bound
    }
}

/// Traces that are remembered.
const MOST_TRACES: usize = 1024;
/// How often each is continued.
const MOST_REQUESTS: u32 = 1000;

/// The traces that were sampled last, and how often each may still be continued by clients that have no say otherwise.
#[derive(Debug, Default)]
pub struct Continuations {
    left: HashMap<u128, u32>,
    order: VecDeque<u128>,
}

impl Continuations {
    /// Remembers a trace that is sampled.
    pub fn note(&mut self, trace: u128) {
        if self.left.contains_key(&trace) {
            return;
        }
        self.left.insert(trace, MOST_REQUESTS);
        self.order.push_back(trace);
        while self.order.len() > MOST_TRACES {
            let Some(oldest) = self.order.pop_front() else { return };
            self.left.remove(&oldest);
        }
    }

    /// Whether a request may continue a trace; counts it.
    pub fn take(&mut self, trace: u128) -> bool {
        match self.left.get_mut(&trace) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_all_or_about_the_part_that_is_asked_for_is_taken() {
        let taken = |rate| (0..100_000).filter(|_| Sampler::per_million(rate).takes(rand::random())).count();
        assert_eq!((taken(0), taken(1_000_000), taken(u32::MAX)), (0, 100_000, 100_000));
        assert!((9_000..=11_000).contains(&taken(100_000)), "{}", taken(100_000));
        assert!(Sampler::per_million(500_000).takes(u128::MAX << 64), "the last eight bytes decide");
        assert!(!Sampler::per_million(500_000).takes(u128::from(u64::MAX)));
    }

    #[test]
    fn a_trace_is_continued_a_bounded_number_of_times_and_while_it_is_new() {
        let mut known = Continuations::default();
        assert!(!known.take(1), "it was not sampled here");
        known.note(1);
        assert_eq!((0..2 * MOST_REQUESTS).filter(|_| known.take(1)).count(), MOST_REQUESTS as usize);
        known.note(1);
        assert!(!known.take(1), "it does not begin anew");
        known.note(2);
        (10..10 + MOST_TRACES as u128).for_each(|trace| known.note(trace));
        assert!(!known.take(2) && known.take(10 + MOST_TRACES as u128 - 1));
        assert_eq!((known.left.len(), known.order.len()), (MOST_TRACES, MOST_TRACES));
    }
}

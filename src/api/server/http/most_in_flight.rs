//! Requests in work: the most of the last second, as upstream's gauge tells them.

use std::{
    sync::{
        LazyLock,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{self, Relaxed},
        },
    },
    time::Instant,
};

use actix_web::http::Method;
use troupe_api::metrics::{Collect, Text};

const NAME: &str = "apiserver_current_inflight_requests";
const HELP: &str = "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.";

/// Seconds are counted from here.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static READ_ONLY: MostInFlight = MostInFlight::new();
static MUTATING: MostInFlight = MostInFlight::new();

fn second() -> u32 {
    // The first second has one before it.
    u32::try_from(START.elapsed().as_secs()).unwrap_or(u32::MAX - 1) + 1
}

/// Requests of one kind that are in work, and the most that were in one second.
#[derive(Debug)]
struct MostInFlight {
    now: AtomicU32,
    /// The last second in which one began, and the most in it; see [`packed`].
    latest: AtomicU64,
    /// The same of the one before.
    before: AtomicU64,
}

/// A second and the most in it, as one number.
const fn packed(second: u32, most: u32) -> u64 {
    (second as u64) << 32 | most as u64
}

#[allow(clippy::cast_possible_truncation, reason = "each half is one of the two")]
const fn unpacked(both: u64) -> (u32, u32) {
    ((both >> 32) as u32, both as u32)
}

impl MostInFlight {
    const fn new() -> Self {
        MostInFlight { now: AtomicU32::new(0), latest: AtomicU64::new(0), before: AtomicU64::new(0) }
    }

    fn begin(&self, second: u32) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        let mut known = self.latest.load(Relaxed);
        loop {
            let (latest, most) = unpacked(known);
            let next = packed(second, if latest == second { most.max(now) } else { now });
            match self.latest.compare_exchange_weak(known, next, Ordering::AcqRel, Relaxed) {
                Ok(_) if latest == second => return,
                Ok(_) => return self.before.store(known, Ordering::Release),
                Err(other) => known = other,
            }
        }
    }

    fn end(&self) {
        self.now.fetch_sub(1, Relaxed);
    }

    /// The most in the whole second before this one, or what is in work now if that is more.
    fn most(&self, second: u32) -> u32 {
        let seconds = [self.latest.load(Ordering::Acquire), self.before.load(Ordering::Acquire)].map(unpacked);
        let last = seconds.into_iter().filter(|(of, _)| of + 1 == second).map(|(_, most)| most);
        last.chain([self.now.load(Relaxed)]).max().unwrap_or(0)
    }
}

/// A request in work; over when dropped.
#[derive(Debug)]
pub struct InWork(&'static MostInFlight);

impl InWork {
    /// A request that the limit of requests in work counts.
    pub fn begin(method: &Method) -> Self {
        let kind = if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) { &READ_ONLY } else { &MUTATING };
        kind.begin(second());
        InWork(kind)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Tells them.
pub struct InFlightMetrics;

impl Collect for InFlightMetrics {
    fn collect(&self, text: &mut Text) {
        let second = second();
        text.family(NAME, HELP, "gauge");
        for (kind, requests) in [("mutating", &MUTATING), ("readOnly", &READ_ONLY)] {
            text.sample(NAME, &[("request_kind", kind)], f64::from(requests.most(second)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_the_last_second_is_told() {
        let requests = MostInFlight::new();
        (0..3).for_each(|_| requests.begin(7));
        (0..2).for_each(|_| requests.end());
        requests.begin(7);
        assert_eq!(requests.most(7), 2, "this second is not over");
        assert_eq!(requests.most(8), 3);
        requests.begin(8);
        assert_eq!((requests.most(8), requests.most(9)), (3, 3), "two go on since the second before");
        (0..3).for_each(|_| requests.end());
        assert_eq!((requests.most(9), requests.most(10)), (3, 0));
    }
}

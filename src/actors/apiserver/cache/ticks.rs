//! The ticks of a resource's actor. It has one when time brings it something, and not every second for nothing: there are thousands of
//! resources of which nobody asks anything.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

/// What ticks are counted in.
pub const TICK: Duration = Duration::from_secs(1);
/// Ticks from one look at watches to the next while it is known of none when it ends: their bookmarks are due every 55 seconds.
pub const QUIET: u32 = 10;
/// No tick is wanted.
const NEVER: u32 = u32::MAX;

/// Counts the ticks until the next one that an actor wants.
#[derive(Debug)]
pub struct Ticks(AtomicU32);

impl Default for Ticks {
    fn default() -> Self {
        Ticks(AtomicU32::new(NEVER))
    }
}

impl Ticks {
    /// One is wanted after so many, or sooner if that was said before.
    pub fn want(&self, after: u32) {
        self.0.fetch_min(after, SeqCst);
    }

    /// Counts a tick; whether it is one that was wanted. Then none is until somebody wants one again.
    pub fn count(&self) -> bool {
        let next = |left: u32| match left {
            NEVER => None,
            0 | 1 => Some(NEVER),
            more => Some(more - 1),
        };
        matches!(self.0.fetch_update(SeqCst, SeqCst, next), Ok(0 | 1))
    }
}

/// The ticks after which so much time has passed for sure.
pub fn beyond(time: Duration) -> u32 {
    u32::try_from(time.as_secs() / TICK.as_secs()).unwrap_or(NEVER).saturating_add(1)
}

/// The first tick of a resource that begins to be watched. Many are when a process starts: they need not have theirs at once.
pub fn first(resource: &str) -> u32 {
    1 + resource.bytes().map(u32::from).sum::<u32>() % QUIET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_come_when_they_are_wanted_and_only_then() {
        let ticks = Ticks::default();
        let count = |most: usize| (0..most).map(|_| ticks.count()).collect::<Vec<_>>();
        assert_eq!(count(3), [false; 3]);
        ticks.want(10);
        ticks.want(3);
        ticks.want(5);
        assert_eq!(count(6), [false, false, true, false, false, false]);
        ticks.want(1);
        assert_eq!(count(2), [true, false]);
    }

    #[test]
    fn a_time_has_passed_with_the_tick_beyond_it() {
        assert_eq!([0, 999, 1000, 300_000].map(|millis| beyond(Duration::from_millis(millis))), [1, 1, 2, 301]);
        assert_eq!(beyond(Duration::MAX), NEVER);
    }

    #[test]
    fn resources_share_the_ticks_among_them() {
        let mut many = [0; QUIET as usize + 1];
        for at in 0..1500 {
            many[first(&format!("things{at}.group-{}.example.com", at % 100)) as usize] += 1;
        }
        assert_eq!(many[0], 0);
        assert!(many[1..].iter().all(|resources| *resources < 300), "{many:?}");
    }
}

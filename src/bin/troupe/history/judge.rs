//! What the ends of earlier starts say: a crash loop, and how long to wait before the next start. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::model::{How, Start};

/// So many unclean ends within this time are a loop.
const ENDS: usize = 3;
const WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// The pause after the crash that makes a loop; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How long a start is watched after it is ready, and how long when the one before crashed.
const SETTLING: Duration = Duration::from_secs(2);
const SETTLING_AFTER_CRASH: Duration = Duration::from_secs(10);

/// Ends that follow each other too fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashLoop {
    pub ends: usize,
    pub minutes: i64,
    /// How the last one was.
    pub last: How,
}

/// Whether the daemon ends again and again.
pub fn crash_loop(starts: &[Start], now: Timestamp) -> Option<CrashLoop> {
    let ends = lately(starts, now, How::is_unclean);
    let last = ends.last().map(|(_, how)| (*how).clone())?;
    (ends.len() >= ENDS).then(|| CrashLoop { ends: ends.len(), minutes: WITHIN.as_mins(), last })
}

/// How long the next start should wait yet, so that a loop leaves the machine to others. A process that somebody killed may
/// start at once.
pub fn pause(starts: &[Start], now: Timestamp) -> Duration {
    let crashes = lately(starts, now, How::is_a_crash);
    let Some((last, _)) = crashes.last().filter(|_| crashes.len() >= ENDS) else { return Duration::ZERO };
    let doublings = u32::try_from(crashes.len() - ENDS).unwrap_or(u32::MAX).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    let since = Duration::try_from(now.duration_since(*last)).unwrap_or_default();
    pause.saturating_sub(since)
}

/// How long a start is watched after it is ready.
pub fn settling(starts: &[Start], now: Timestamp) -> Duration {
    if lately(starts, now, How::is_a_crash).is_empty() { SETTLING } else { SETTLING_AFTER_CRASH }
}

/// The ends of late that are `such`, since the last start that stopped in good order. A safe start that stopped does not count
/// for that: it shows nothing.
fn lately(starts: &[Start], now: Timestamp, such: impl Fn(&How) -> bool) -> Vec<(Timestamp, &How)> {
    let mut found = Vec::new();
    for start in starts {
        let Some(end) = &start.end else { continue };
        if end.how == How::Stopped && !start.safe {
            found.clear();
        }
        let Ok(at) = end.at.parse::<Timestamp>() else { continue };
        if such(&end.how) && now.duration_since(at) <= WITHIN {
            found.push((at, &end.how));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::model::Ended;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("a time")
    }

    fn ended(second: i64, how: How) -> Start {
        let end = Some(Ended { at: at(second).to_string(), how });
        Start { at: at(second - 1).to_string(), pid: 1, boot: "b".into(), safe: false, memory_kills: None, end }
    }

    fn crash() -> How {
        How::Fatal("SIGSEGV".into())
    }

    #[test]
    fn three_unclean_ends_within_ten_minutes_are_a_loop() {
        let mut starts = vec![ended(0, crash()), ended(10, How::Killed)];
        assert_eq!(crash_loop(&starts, at(20)), None);
        starts.push(ended(20, How::OutOfMemory));
        assert_eq!(crash_loop(&starts, at(30)), Some(CrashLoop { ends: 3, minutes: 10, last: How::OutOfMemory }));
        assert_eq!(crash_loop(&starts, at(601)), None, "the first is long ago");
        starts.push(ended(40, How::Stopped));
        assert_eq!(crash_loop(&starts, at(50)), None, "it ran well in between");
    }

    #[test]
    fn a_safe_start_that_stops_does_not_hide_the_loop() {
        let mut starts: Vec<Start> = (0..3).map(|n| ended(n, crash())).collect();
        starts.push(Start { safe: true, ..ended(10, How::Stopped) });
        assert!(crash_loop(&starts, at(20)).is_some());
    }

    #[test]
    fn pauses_grow_with_the_crashes_and_shrink_with_time() {
        let crashes = |count: i64| (0..count).map(|n| ended(n, crash())).collect::<Vec<_>>();
        assert_eq!(pause(&crashes(2), at(2)), Duration::ZERO);
        assert_eq!(pause(&crashes(3), at(2)), Duration::from_secs(5));
        assert_eq!(pause(&crashes(3), at(6)), Duration::from_secs(1));
        assert_eq!(pause(&crashes(5), at(4)), Duration::from_secs(20));
        assert_eq!(pause(&crashes(40), at(39)), LONGEST_PAUSE);
        let killed: Vec<Start> = (0..9).map(|n| ended(n, How::Killed)).collect();
        assert_eq!(pause(&killed, at(9)), Duration::ZERO, "who kills a daemon may want it back");
    }

    #[test]
    fn after_a_crash_a_start_is_watched_for_longer() {
        assert_eq!(settling(&[], at(0)), SETTLING);
        assert_eq!(settling(&[ended(0, How::Stopped)], at(1)), SETTLING);
        assert_eq!(settling(&[ended(0, crash())], at(1)), SETTLING_AFTER_CRASH);
    }
}

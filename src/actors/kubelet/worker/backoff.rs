//! How long a failed container waits before it is started again.

use jiff::{SignedDuration, Timestamp};
use troupe_api::meta::time::not_beyond;

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// A container that ran this long after its last restart begins anew.
const FORGET: SignedDuration = SignedDuration::from_mins(10);

/// The wait of one container: 10 s, doubled each time, at most 5 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartBackoff {
    pub delay: SignedDuration,
    pub updated: Timestamp,
}

impl RestartBackoff {
    /// The backoff of a container that already restarted `attempt` times when we first saw it.
    pub fn resumed(attempt: u32, started: Timestamp, finished: Timestamp) -> Option<Self> {
        let ran = finished.duration_since(started);
        (attempt > 0 && ran < FORGET).then(|| {
            let delay = FIRST.checked_mul(1_i32.checked_shl(attempt.min(10) - 1).unwrap_or(1)).unwrap_or(LONGEST).min(LONGEST);
            RestartBackoff { delay, updated: started }
        })
    }

    /// When a container that ended at `finished` may start again.
    pub fn until(&self, finished: Timestamp, now: Timestamp) -> Timestamp {
        if finished.duration_since(self.updated) > FORGET {
            return finished;
        }
        not_beyond(finished.saturating_add(self.delay).unwrap_or(finished), now, LONGEST.unsigned_abs())
    }

    /// The backoff after one more start at `now` of a container that ended at `finished`.
    pub fn after_restart(previous: Option<Self>, finished: Timestamp, now: Timestamp) -> Self {
        let delay = match previous {
            Some(previous) if finished.duration_since(previous.updated) <= FORGET => (previous.delay * 2).min(LONGEST),
            _ => FIRST,
        };
        RestartBackoff { delay, updated: now }
    }
}

/// The delay as Go prints it in messages: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(delay: SignedDuration) -> String {
    let seconds = delay.as_secs();
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn waits_double_up_to_five_minutes() {
        let mut backoff = None;
        let mut waits = Vec::new();
        for round in 0..7 {
            let now = at(round * 300);
            backoff = Some(RestartBackoff::after_restart(backoff, now, now));
            waits.push(go_duration(backoff.expect("set").delay));
        }
        assert_eq!(waits, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
    }

    #[test]
    fn a_container_that_ran_ten_minutes_begins_anew() {
        let old = RestartBackoff { delay: LONGEST, updated: at(0) };
        assert_eq!(RestartBackoff::after_restart(Some(old), at(601), at(602)).delay, FIRST);
        assert_eq!(old.until(at(601), at(601)), at(601));
        assert_eq!(old.until(at(100), at(100)), at(400));
        assert_eq!(old.until(at(4000), at(400)), at(4000), "it ran for long");
        let recent = RestartBackoff { updated: at(3990), ..old };
        assert_eq!(recent.until(at(4000), at(400)), at(400), "the clock was set back");
    }

    #[test]
    fn a_restart_of_the_daemon_keeps_the_wait() {
        assert_eq!(RestartBackoff::resumed(3, at(0), at(5)).map(|b| b.delay), Some(SignedDuration::from_secs(40)));
        assert_eq!(RestartBackoff::resumed(0, at(0), at(5)), None);
        assert_eq!(RestartBackoff::resumed(9, at(0), at(1000)), None);
    }
}

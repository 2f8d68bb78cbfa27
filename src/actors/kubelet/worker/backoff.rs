//! How long a failed container waits before it is started again.

use jiff::{SignedDuration, Timestamp};
use troupe_api::meta::time::not_beyond;

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// A container that ran this long after its last restart begins anew.
const FORGET: SignedDuration = SignedDuration::from_mins(10);

/// How long containers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    first: SignedDuration,
    longest: SignedDuration,
}

impl Default for BackoffPolicy {
    /// Ten seconds, and five minutes at most.
    fn default() -> Self {
        BackoffPolicy::at_most(LONGEST)
    }
}

impl BackoffPolicy {
    /// One where nobody waits longer than that (upstream's `maxContainerRestartPeriod`).
    pub fn at_most(longest: SignedDuration) -> Self {
        BackoffPolicy { first: FIRST.min(longest), longest }
    }
}

/// The wait of one container, doubled each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartBackoff {
    pub delay: SignedDuration,
    pub updated: Timestamp,
}

impl RestartBackoff {
    /// The backoff of a container that already restarted `attempt` times when we first saw it.
    pub fn resumed(policy: BackoffPolicy, attempt: u32, started: Timestamp, finished: Timestamp) -> Option<Self> {
        let ran = finished.duration_since(started);
        (attempt > 0 && ran < FORGET).then(|| {
            let BackoffPolicy { first, longest } = policy;
            let delay = first.checked_mul(1_i32.checked_shl(attempt.min(10) - 1).unwrap_or(1)).unwrap_or(longest).min(longest);
            RestartBackoff { delay, updated: started }
        })
    }

    /// Whether it follows the first restart, which nobody waits for.
    pub fn is_first(&self, policy: BackoffPolicy) -> bool {
        self.delay == policy.first
    }

    /// When a container that ended at `finished` may start again.
    pub fn until(&self, finished: Timestamp, now: Timestamp) -> Timestamp {
        if finished.duration_since(self.updated) > FORGET {
            return finished;
        }
        not_beyond(finished.saturating_add(self.delay).unwrap_or(finished), now, LONGEST.unsigned_abs())
    }

    /// The backoff after one more start at `now` of a container that ended at `finished`.
    pub fn after_restart(policy: BackoffPolicy, previous: Option<Self>, finished: Timestamp, now: Timestamp) -> Self {
        let delay = match previous {
            Some(previous) if finished.duration_since(previous.updated) <= FORGET => (previous.delay * 2).min(policy.longest),
            _ => policy.first,
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
            backoff = Some(RestartBackoff::after_restart(BackoffPolicy::default(), backoff, now, now));
            waits.push(go_duration(backoff.expect("set").delay));
        }
        assert_eq!(waits, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
    }

    #[test]
    fn a_container_that_ran_ten_minutes_begins_anew() {
        let old = RestartBackoff { delay: LONGEST, updated: at(0) };
        assert_eq!(RestartBackoff::after_restart(BackoffPolicy::default(), Some(old), at(601), at(602)).delay, FIRST);
        assert_eq!(old.until(at(601), at(601)), at(601));
        assert_eq!(old.until(at(100), at(100)), at(400));
        assert_eq!(old.until(at(4000), at(400)), at(4000), "it ran for long");
        let recent = RestartBackoff { updated: at(3990), ..old };
        assert_eq!(recent.until(at(4000), at(400)), at(400), "the clock was set back");
    }

    #[test]
    fn a_restart_of_the_daemon_keeps_the_wait() {
        assert_eq!(RestartBackoff::resumed(BackoffPolicy::default(), 3, at(0), at(5)).map(|b| b.delay), Some(SignedDuration::from_secs(40)));
        assert_eq!(RestartBackoff::resumed(BackoffPolicy::default(), 0, at(0), at(5)), None);
        assert_eq!(RestartBackoff::resumed(BackoffPolicy::default(), 9, at(0), at(1000)), None);
    }

    #[test]
    fn no_wait_is_longer_than_it_may_be() {
        let policy = BackoffPolicy::at_most(SignedDuration::from_secs(3));
        let first = RestartBackoff::after_restart(policy, None, at(0), at(0));
        assert_eq!((first.delay.as_secs(), RestartBackoff::after_restart(policy, Some(first), at(1), at(4)).delay.as_secs()), (3, 3));
        assert_eq!(RestartBackoff::resumed(policy, 5, at(0), at(5)).map(|backoff| backoff.delay.as_secs()), Some(3));
        let policy = BackoffPolicy::at_most(SignedDuration::from_secs(15));
        let second = RestartBackoff::after_restart(policy, Some(RestartBackoff::after_restart(policy, None, at(0), at(0))), at(1), at(11));
        assert_eq!(second.delay.as_secs(), 15);
    }
}

//! How long a job waits before it replaces failed pods: 10 s, doubling with each failure in a row, 10 min at most. Pure.

use std::time::Duration;

use jiff::Timestamp;
use troupe_api::meta::time::passed;

use super::pod::JobPod;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// The failures of a job since its last success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    last: Option<Timestamp>,
}

impl Backoff {
    /// With pods that ended since. A success makes earlier failures count no more.
    pub fn after(&self, succeeded: &[&JobPod], failed: &[&JobPod]) -> Backoff {
        let last_success = succeeded.iter().map(|pod| pod.finished_at).max();
        let before = if last_success.is_none() { self.clone() } else { Backoff::default() };
        let counted = failed.iter().map(|pod| pod.finished_at).filter(|time| last_success.is_none_or(|success| *time > success));
        let times: Vec<_> = counted.collect();
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        Backoff { failures: before.failures.saturating_add(count), last: times.into_iter().max().or(before.last) }
    }

    /// How long to wait still; `None`: not at all.
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        left(self.failures, self.last?, now)
    }
}

/// How long to wait still after `failures` in a row, the last of them at `last`.
pub fn left(failures: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
    if failures == 0 {
        return None;
    }
    let factor = 2_u32.saturating_pow(failures - 1);
    let pause = FIRST.saturating_mul(factor).min(LONGEST);
    pause.checked_sub(passed(last, now, pause)).filter(|left| !left.is_zero())
}

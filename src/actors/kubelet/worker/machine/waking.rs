//! When a pod's machine goes on although nothing happens: tries, refreshes, probes and deadlines that are due.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodSpec;
use troupe_api::meta::time::not_beyond;

use super::{Effect, PodFailure, PodMachine, find_container};
use crate::kubelet::worker::apply::FAILED_CLEANUP;

/// How often volumes are looked at, at least and at most: what is gone is back within a minute, and the pods of a node take turns.
const REFRESH: SignedDuration = SignedDuration::from_secs(30);
const LONGEST_REFRESH: SignedDuration = SignedDuration::from_secs(45);
/// When a failed observation is tried again.
pub(super) const OBSERVE_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// The longest wait before a failed step is tried again.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_mins(5);

impl PodMachine {
    /// When to call [`PodMachine::advance`] even if nothing happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wake_at
    }

    /// Takes nothing for far away only because the clock was set back: what was set a moment ahead is due then.
    pub(super) fn follow_clock(&mut self, now: Timestamp) {
        let follow = |moment: Timestamp, longest: SignedDuration| not_beyond(moment, now, longest.unsigned_abs());
        self.observe_at = self.observe_at.map(|at| follow(at, OBSERVE_AGAIN));
        self.refresh_at = self.refresh_at.map(|at| follow(at, LONGEST_REFRESH));
        self.memory.stop_began = self.memory.stop_began.map(|began| began.min(now));
        for failure in self.memory.failures.values_mut() {
            failure.retry_at = follow(failure.retry_at, LONGEST_RETRY);
            failure.since = failure.since.min(now);
        }
    }

    /// When a failed step may be tried again. What is due already waits for the observation under way, which wakes by itself.
    pub(super) fn memory_wake(&self, now: Timestamp) -> Option<Timestamp> {
        self.memory.failures.values().map(|failure| failure.retry_at).filter(|at| *at > now).min()
    }

    pub(super) fn check_deadline(&mut self, now: Timestamp) {
        let Some(pod) = &self.pod else { return };
        let limit = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let Some((limit, start)) = limit.zip(start) else { return };
        if now.duration_since(start.0) >= SignedDuration::from_secs(limit) && self.stopping.is_none() {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.fail_pod(PodFailure { reason: "DeadlineExceeded".into(), message, rejected: false, evicted: None });
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let pod = self.pod.as_ref()?;
        let limit = pod.spec.as_ref()?.active_deadline_seconds?;
        let start = pod.status.as_ref()?.start_time.as_ref()?;
        start.0.saturating_add(SignedDuration::from_secs(limit)).ok()
    }

    /// Starts what is due and remembers when the next thing is.
    pub(super) fn arm(&mut self, planned: Option<Timestamp>, spec: &PodSpec, effects: &mut Vec<Effect>, now: Timestamp) {
        let mut wake = [planned, self.wake_at].into_iter().flatten().min();
        let mut sooner = |time: Option<Timestamp>| wake = [wake, time].into_iter().flatten().min();
        if self.stopping.is_some() {
            self.probes.stop();
        }
        let due = self.probes.take_due(now);
        let wanted = due.into_iter().filter(|task| find_container(spec, &task.container).is_some());
        effects.extend(wanted.map(|task| Effect::Probe(Box::new(task))));
        sooner(self.probes.next_due());
        if self.stopping.is_none() {
            sooner(self.deadline());
            if !self.refreshing && !self.memory.busy {
                match self.refresh_at {
                    Some(at) if at <= now => {
                        self.refreshing = true;
                        effects.push(Effect::Refresh);
                    }
                    at => sooner(at),
                }
            }
        }
        self.wake_at = wake;
    }
}

/// How often the volumes of a pod are looked at.
pub(super) fn refresh_period(uid: &str) -> SignedDuration {
    let spread = (LONGEST_REFRESH - REFRESH).as_millis().max(1);
    let share = uid.bytes().fold(0_i128, |sum, byte| (sum * 31 + i128::from(byte)) % spread);
    REFRESH + SignedDuration::from_millis(i64::try_from(share).unwrap_or(0))
}

/// How long to wait before a failed step is tried again.
pub(super) fn retry_delay(reason: &str, count: u32) -> SignedDuration {
    let doubled = |first: i64, longest: i64| SignedDuration::from_secs((first << count.saturating_sub(1).min(10)).min(longest));
    match reason {
        "ErrImagePull" => doubled(10, 300),
        // Upstream's, of volumes that come and go: their driver may be back any time.
        "FailedMount" | FAILED_CLEANUP => doubled(1, 122),
        "FailedCreatePodSandBox" => doubled(1, 15),
        _ => doubled(1, 10),
    }
}

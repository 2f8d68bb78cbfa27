//! How long a job waits before it replaces failed pods: 10 s, doubling with each failure in a row, 10 min at most. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use troupe_api::meta::time::passed;

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
    pub fn after(&self, succeeded: &[&Pod], failed: &[&Pod]) -> Backoff {
        let last_success = succeeded.iter().map(|pod| finished_at(pod)).max();
        let before = if last_success.is_none() { self.clone() } else { Backoff::default() };
        let counted = failed.iter().map(|pod| finished_at(pod)).filter(|time| last_success.is_none_or(|success| *time > success));
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

/// When a pod ended, as far as can be told: its containers' last end, when it stopped being ready, when it was told to
/// go, or when it was made.
pub fn finished_at(pod: &Pod) -> Timestamp {
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    of_containers(pod).or_else(|| of_condition(pod)).or_else(|| of_deletion(pod)).or_else(created).unwrap_or_default()
}

/// `None` unless all containers, and sidecars, have ended.
fn of_containers(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<_> = inits.filter(|container| container.restart_policy.as_deref() == Some("Always")).map(|container| &container.name).collect();
    let beside = status.init_container_statuses.iter().flatten().filter(|status| sidecars.contains(&&status.name));
    let statuses = status.container_statuses.iter().flatten().chain(beside);
    let ends: Option<Vec<Timestamp>> = statuses.map(end).collect();
    ends?.into_iter().max()
}

fn end(status: &ContainerStatus) -> Option<Timestamp> {
    Some(status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)
}

fn of_condition(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "False")?;
    unready.last_transition_time.as_ref().map(|time| time.0)
}

fn of_deletion(pod: &Pod) -> Option<Timestamp> {
    let deadline = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = jiff::SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    deadline.checked_sub(grace).ok()
}

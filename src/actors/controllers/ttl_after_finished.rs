//! Deletes finished jobs when their `ttlSecondsAfterFinished` has passed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, Propagation},
};

use super::job::is_finished;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct TtlAfterFinishedController {
    jobs: Cache<Job>,
}

impl TtlAfterFinishedController {
    pub fn new(caches: &Caches) -> Self {
        TtlAfterFinishedController { jobs: caches.cache() }
    }
}

impl Controller for TtlAfterFinishedController {
    const NAME: &'static str = "ttl-after-finished";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Job>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(job) = self.jobs.get(key) else { return Ok(Outcome::Done) };
        match time_left(&job.object, cx.now()) {
            None => return Ok(Outcome::Done),
            Some(left) if !left.is_zero() => return Ok(Outcome::RequeueAfter(left)),
            Some(_) => {}
        }
        // The time to live may have been raised and not been seen yet.
        let api = cx.client().namespaced::<Job>(key.namespace.clone());
        let Some(fresh) = api.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
        match time_left(&fresh, cx.now()) {
            Some(left) if left.is_zero() => {}
            left => return Ok(left.map_or(Outcome::Done, Outcome::RequeueAfter)),
        }
        let uid = fresh.metadata.uid.clone();
        let options = DeleteOptions { propagation: Some(Propagation::Foreground), precondition_uid: uid.clone(), ..DeleteOptions::default() };
        match api.delete(&key.name, options).await {
            Err(status) if !status.is_not_found() => Err(status.into()),
            _ => {
                cx.deleted(&self.jobs, key.clone(), uid.unwrap_or_default());
                Ok(Outcome::Done)
            }
        }
    }
}

/// How long a finished job may stay still; `None` for those that stay or go anyway.
pub fn time_left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() || !is_finished(job) {
        return None;
    }
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    let last = conditions.find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True")?;
    let passed = now.duration_since(last.last_transition_time.as_ref()?.0);
    let left = jiff::SignedDuration::from_secs(i64::from(ttl)).saturating_sub(passed);
    Some(left.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(ttl: Option<i32>, condition: &str) -> Job {
        let condition = json!({"type": condition, "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z"});
        let spec = json!({"ttlSecondsAfterFinished": ttl, "template": {}});
        serde_json::from_value(json!({"spec": spec, "status": {"conditions": [condition]}})).expect("a job")
    }

    #[test]
    fn a_finished_job_stays_for_its_time_to_live() {
        let at = |second| Timestamp::from_second(second).expect("small");
        for condition in ["Complete", "Failed"] {
            assert_eq!(time_left(&job(Some(10), condition), at(64)), Some(Duration::from_secs(6)));
            assert_eq!(time_left(&job(Some(10), condition), at(70)), Some(Duration::ZERO));
            assert_eq!(time_left(&job(Some(0), condition), at(60)), Some(Duration::ZERO));
        }
    }

    #[test]
    fn jobs_that_run_or_have_no_time_to_live_stay() {
        assert_eq!(time_left(&job(None, "Complete"), Timestamp::MAX), None);
        assert_eq!(time_left(&job(Some(0), "Suspended"), Timestamp::MAX), None);
        assert_eq!(time_left(&job(Some(0), "SuccessCriteriaMet"), Timestamp::MAX), None);
    }
}

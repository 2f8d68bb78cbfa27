//! Job: runs pods until enough of them succeeded, or too many failed.
//!
//! In: jobs and their pods. Out: pods, and the status. A finished pod is counted exactly once: it keeps a finalizer until
//! the status lists it as uncounted (or has its index), and leaves that list when the finalizer is gone.

mod apply;
pub mod backoff;
pub mod failure_policy;
pub mod gang;
pub mod indexes;
pub mod manage;
pub mod metrics;
pub mod orphans;
pub mod plan;
pub mod pod;
pub mod success_policy;
pub mod template;
pub mod tracking;
pub mod verdict;
pub mod view;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use parking_lot::Mutex;
use troupe_api::meta::{LabelSelector, ObjectKey};

use self::{apply::Applier, backoff::Backoff, gang::Gangs, plan::Snapshot, pod::JobPod};
use super::{by_controller, by_selector, owners::orphaned, pace};
use crate::runtime::{
    cache::{Cache, Caches, Digests},
    controller::{self, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Keeps a pod until it is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// `spec.managedBy` of jobs that are this controller's.
const CONTROLLER: &str = "kubernetes.io/job-controller";

/// See the module.
pub struct JobController {
    jobs: Cache<Job>,
    pods: Cache<Pod>,
    digests: Digests<Pod, JobPod>,
    /// Where pods of some jobs get nodes together.
    gangs: Option<Gangs>,
    /// By UID. Losing it only makes failed pods come back sooner.
    backoffs: Mutex<HashMap<String, Backoff>>,
}

impl JobController {
    pub fn new(caches: &Caches) -> Self {
        let jobs = by_selector::index(caches.cache(), |job| Some(selector_of(job)));
        let pods = by_controller::index(caches.cache::<Pod>());
        JobController { jobs, digests: pods.digests(), pods, gangs: None, backoffs: Mutex::default() }
    }

    /// The same where pods of some jobs get nodes together (the feature `WorkloadWithJob`).
    #[must_use]
    pub fn with_gangs(self, caches: &Caches) -> Self {
        JobController { gangs: Some(Gangs::new(caches)), ..self }
    }

    fn forget_finished(&self) {
        let mut backoffs = self.backoffs.lock();
        if !backoffs.is_empty() {
            let jobs = self.jobs.list("");
            let unfinished: HashSet<&String> = jobs.iter().filter(|job| !is_finished(job)).filter_map(|job| job.metadata.uid.as_ref()).collect();
            backoffs.retain(|uid, _| unfinished.contains(uid));
        }
    }
}

impl Controller for JobController {
    const NAME: &'static str = "job";
    const BACKOFF: controller::Backoff = controller::Backoff::new(1_000, 60);

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Job>();
        if let Some(gangs) = &self.gangs {
            gangs.watches(watches);
        }
        watches.owned::<Pod>("Job");
        let jobs = self.jobs.clone();
        // A pod without controller may be adopted by any job that selects it.
        watches.map::<Pod>(move |change| {
            metrics::saw(change);
            let Some(orphan) = orphaned(change) else { return Vec::new() };
            by_selector::selecting(&jobs, &change.key.namespace, std::iter::once(&orphan.labels))
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(job) = self.jobs.get(key).map(|cached| cached.object).filter(|job| !is_finished(job)) else {
            self.forget_finished();
            return Ok(Outcome::Done);
        };
        if !is_ours(&job) {
            return Ok(Outcome::Done);
        }
        let began = cx.system().instant();
        let pods = self.digests.read(&by_controller::related_stored(&self.pods, &job.metadata, &selector_of(&job))).await;
        let group = match &self.gangs {
            Some(gangs) => gangs.of(&job, !pods.is_empty(), cx).await?,
            None => None,
        };
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let backoff = self.backoffs.lock().get(&uid).cloned().unwrap_or_default();
        let planned = plan::plan(&Snapshot { job: &job, pods: &pods, backoff: &backoff }, cx.now());
        let JobController { jobs, pods: cached, digests, backoffs, .. } = self;
        let applier = Applier { job: &job, group: group.as_deref(), jobs, pods: cached, digests, backoffs, cx };
        let action = metrics::action(&job, &planned.actions);
        let applied = applier.apply(planned.actions).await;
        metrics::synced(&job, action, applied.is_ok(), cx.system().instant().saturating_duration_since(began));
        applied?;
        if planned.held_back {
            cx.tell(&*job, true, pace::HELD_BACK, pace::held_back_message());
        }
        Ok(Outcome::of_look(pods.len(), planned.again_after))
    }
}

fn selector_of(job: &Job) -> LabelSelector {
    LabelSelector::from(job.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
}

/// Complete or failed for good.
pub fn is_finished(job: &Job) -> bool {
    ["Complete", "Failed"].iter().any(|kind| has_condition(job, kind))
}

fn has_condition(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// No other controller is named as the one that runs the job.
fn is_ours(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_none_or(|manager| manager == CONTROLLER)
}

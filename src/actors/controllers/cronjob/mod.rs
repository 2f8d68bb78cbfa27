//! CronJob: makes a job whenever the schedule says so.

mod apply;
pub mod metrics;
pub mod plan;
pub mod timing;

#[cfg(test)]
mod tests;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use troupe_api::meta::ObjectKey;

use self::apply::Applier;
use super::by_controller;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct CronJobController {
    crons: Cache<CronJob>,
    jobs: Cache<Job>,
}

impl CronJobController {
    pub fn new(caches: &Caches) -> Self {
        CronJobController { crons: caches.cache(), jobs: by_controller::index(caches.cache()) }
    }
}

impl Controller for CronJobController {
    const NAME: &'static str = "cronjob";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<CronJob>();
        watches.owned::<Job>("CronJob");
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(cron) = self.crons.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let jobs = by_controller::owned(&self.jobs, &cron.metadata);
        let planned = plan::plan(&cron, &jobs, cx.now());
        Applier { cron: &cron, crons: &self.crons, jobs: &self.jobs, cx }.apply(planned.actions).await?;
        Ok(planned.again_after.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}

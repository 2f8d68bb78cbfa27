//! Carries out the plan of a cron job.

use std::sync::Arc;

use k8s_openapi::{
    api::batch::v1::{CronJob, CronJobStatus, Job},
    apimachinery::pkg::apis::meta::v1::Time,
};
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, Propagation},
};
use troupe_api_client::Api;

use super::{metrics, plan::Action};
use crate::{
    controllers::{
        owners::controller_of,
        writes::{is_namespace_terminating, write_status},
    },
    runtime::{
        cache::Cache,
        controller::{ReconcileContext, ReconcileError},
    },
};

/// What writing about one cron job needs.
pub struct Applier<'a> {
    pub cron: &'a CronJob,
    pub crons: &'a Cache<CronJob>,
    pub jobs: &'a Cache<Job>,
    pub cx: &'a ReconcileContext,
}

impl Applier<'_> {
    /// Applies the actions in order. What was started goes into the status.
    pub async fn apply(&self, actions: Vec<Action>) -> Result<(), ReconcileError> {
        let mut started = None;
        for action in actions {
            match action {
                Action::DeleteJob { job, uid } => self.delete(&job, uid).await?,
                Action::Start { job, scheduled } => match self.start(&job, &scheduled).await? {
                    Some(job) => started = Some((job, scheduled)),
                    // Nobody needs it, or somebody else looks after it.
                    None => return Ok(()),
                },
                Action::UpdateStatus(status) => self.write_status(*status, started.take()).await?,
                Action::Announce { warning, reason, message } => self.cx.tell(self.cron, warning, reason, message),
            }
        }
        Ok(())
    }

    fn api(&self) -> Api<Job> {
        self.cx.client().namespaced(self.cron.metadata.namespace.clone().unwrap_or_default())
    }

    async fn delete(&self, job: &str, uid: String) -> Result<(), ReconcileError> {
        let about = ReconcileContext::reference(self.cron);
        let options = DeleteOptions { propagation: Some(Propagation::Background), precondition_uid: Some(uid.clone()), ..DeleteOptions::default() };
        match self.api().delete(job, options).await {
            Err(status) if !status.is_not_found() => {
                self.cx.events().warning(&about, "FailedDelete", format!("Deleted job: {status}"));
                return Err(status.into());
            }
            _ => {}
        }
        self.cx.deleted(self.jobs, ObjectKey::new(self.cron.metadata.namespace.clone().unwrap_or_default(), job), uid);
        self.cx.events().normal(&about, "SuccessfulDelete", format!("Deleted job {job}"));
        Ok(())
    }

    /// Makes the job. One that was made before, and did not reach the status, is taken for made now.
    async fn start(&self, job: &Job, scheduled: &Time) -> Result<Option<Arc<Job>>, ReconcileError> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let about = ReconcileContext::reference(self.cron);
        match self.api().create(job).await {
            Ok(made) => {
                metrics::made(made.metadata.creation_timestamp.as_ref(), scheduled.0);
                self.cx.wrote(self.jobs, &*made);
                self.cx.events().normal(&about, "SuccessfulCreate", format!("Created job {name}"));
                Ok(Some(made))
            }
            Err(status) if is_namespace_terminating(&status) => Ok(None),
            Err(status) if status.is_already_exists() => {
                let there = self.api().get(name).await?;
                let ours = controller_of(&there.metadata).is_some_and(|owner| Some(&owner.uid) == self.cron.metadata.uid.as_ref());
                Ok(Some(there).filter(|_| ours))
            }
            Err(status) => {
                self.cx.events().warning(&about, "FailedCreate", format!("Error creating job: {status}"));
                Err(status.into())
            }
        }
    }

    async fn write_status(&self, mut status: CronJobStatus, started: Option<(Arc<Job>, Time)>) -> Result<(), ReconcileError> {
        if let Some((job, scheduled)) = started {
            status.active.get_or_insert_default().push(ReconcileContext::reference(&*job));
            status.last_schedule_time = Some(scheduled);
        }
        let updated = CronJob { status: Some(status), ..self.cron.clone() };
        Ok(write_status(&updated, self.crons, self.cx).await?)
    }
}

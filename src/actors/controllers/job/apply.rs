//! Carries out the plan of a job.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::Pod,
};
use parking_lot::Mutex;
use troupe_api::{client::Api, meta::ObjectKey, status::Status};

use super::{FINALIZER, backoff::Backoff, plan::Action, tracking::some};
use crate::{
    controllers::{
        owners::{adopt_with_finalizer, controller_reference, release_with_finalizer, remove_finalizer},
        pod_control::PodControl,
        writes::is_gone,
    },
    runtime::{
        cache::Cache,
        controller::{ReconcileContext, ReconcileError},
    },
};

/// What writing about one job needs.
pub struct Applier<'a> {
    pub job: &'a Job,
    pub jobs: &'a Cache<Job>,
    pub pods: &'a Cache<Pod>,
    pub backoffs: &'a Mutex<HashMap<String, Backoff>>,
    pub cx: &'a ReconcileContext,
}

impl Applier<'_> {
    /// Applies the actions in order. Pods that cannot be made are taken out of the status, and told at the end.
    pub async fn apply(&self, actions: Vec<Action>) -> Result<(), ReconcileError> {
        let control = PodControl::new(self.job, self.pods, self.cx);
        let own = self.job.metadata.uid.clone().unwrap_or_default();
        let (mut missing, mut failure) = (0, None);
        for action in actions {
            match action {
                Action::AdoptPod { pod, uid } => {
                    self.shown(&pod, &uid, adopt_with_finalizer(&self.api(), &pod, &uid, controller_reference(self.job), FINALIZER).await?);
                }
                Action::ReleasePod { pod, uid } => {
                    self.shown(&pod, &uid, release_with_finalizer(&self.api(), &pod, &uid, &own, FINALIZER).await?);
                }
                Action::DeletePod { pod, uid, tracked } => {
                    if !tracked {
                        self.shown(&pod, &uid, remove_finalizer(&self.api(), &pod, &uid, FINALIZER).await?);
                    }
                    control.delete(&pod, &uid).await?;
                }
                Action::CreatePods(pods) => {
                    if let Err(failed) = control.create(&pods).await {
                        missing = failed.missing;
                        failure = Some(failed.status);
                    }
                }
                Action::UpdateStatus(status) => self.write_status(*status, missing).await?,
                Action::NoteFailures(backoff) => _ = self.backoffs.lock().insert(own.clone(), backoff),
                Action::RemoveFinalizer { pod, uid } => self.shown(&pod, &uid, remove_finalizer(&self.api(), &pod, &uid, FINALIZER).await?),
                Action::Announce { warning, reason, message } => self.announce(warning, &reason, message),
            }
        }
        failure.map_or(Ok(()), |status: Status| Err(status.into()))
    }

    fn api(&self) -> Api<Pod> {
        self.cx.client().namespaced(self.job.metadata.namespace.clone().unwrap_or_default())
    }

    /// A pod that is gone already shows as such.
    fn shown(&self, pod: &str, uid: &str, written: Option<Arc<Pod>>) {
        match written {
            Some(written) => self.cx.wrote(self.pods, &*written),
            None => self.cx.deleted(self.pods, ObjectKey::new(self.job.metadata.namespace.clone().unwrap_or_default(), pod), uid),
        }
    }

    fn announce(&self, warning: bool, reason: &str, message: String) {
        let about = ReconcileContext::reference(self.job);
        if warning { self.cx.events().warning(&about, reason, message) } else { self.cx.events().normal(&about, reason, message) }
    }

    /// Writes on the version that was read: counting on an older one would count twice.
    async fn write_status(&self, mut status: JobStatus, missing: usize) -> Result<(), ReconcileError> {
        let active = status.active.unwrap_or(0) - i32::try_from(missing).unwrap_or(i32::MAX);
        status.active = some(active.max(0));
        let updated = Job { status: Some(status), ..self.job.clone() };
        let api: Api<Job> = self.cx.client().namespaced(self.job.metadata.namespace.clone().unwrap_or_default());
        match api.update_status(&updated).await {
            Ok(written) => self.cx.wrote(self.jobs, &*written),
            Err(status) if is_gone(&status) => {}
            Err(status) => return Err(status.into()),
        }
        Ok(())
    }
}

//! Carries out the plan of a job.

use std::collections::HashMap;

use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::Pod,
    scheduling::v1alpha2::PodGroup,
};
use parking_lot::Mutex;
use troupe_api::{meta::ObjectKey, status::Status};

use super::{FINALIZER, backoff::Backoff, gang::joined, metrics, plan::Action, pod::JobPod, tracking::some};
use crate::{
    controllers::{owners::Adopter, pod_control::PodControl, writes::write_status},
    runtime::{
        cache::{Cache, Digests},
        controller::{ReconcileContext, ReconcileError},
    },
};

/// What writing about one job needs.
pub struct Applier<'a> {
    pub job: &'a Job,
    /// The group that new pods are of.
    pub group: Option<&'a PodGroup>,
    pub jobs: &'a Cache<Job>,
    pub pods: &'a Cache<Pod>,
    pub digests: &'a Digests<Pod, JobPod>,
    pub backoffs: &'a Mutex<HashMap<String, Backoff>>,
    pub cx: &'a ReconcileContext,
}

impl Applier<'_> {
    /// Applies the actions in order. Pods that cannot be made are taken out of the status, and told at the end.
    pub async fn apply(&self, actions: Vec<Action>) -> Result<(), ReconcileError> {
        let control = PodControl::new(self.job, self.jobs, self.pods, self.cx);
        let adopter = Adopter::new(self.job, self.pods, self.cx).with_finalizer(FINALIZER);
        let own = self.job.metadata.uid.clone().unwrap_or_default();
        let (mut missing, mut failure) = (0, None);
        for action in actions {
            match action {
                Action::AdoptPod { pod, uid } => adopter.adopt(&pod, &uid).await?,
                Action::ReleasePod { pod, uid } => adopter.release(&pod, &uid).await?,
                Action::DeletePod { pod, uid, tracked } => {
                    if !tracked {
                        adopter.remove_finalizer(&pod, &uid).await?;
                    }
                    control.delete(&pod, &uid).await?;
                }
                Action::CreatePods(pods) => {
                    if let Err(failed) = control.create(pods.len(), |at| joined(pods[at].make(self.job), self.group)).await {
                        missing = failed.missing;
                        failure = Some(failed.status);
                    }
                }
                Action::UpdateStatus(status) => self.write_status(*status, missing).await?,
                Action::NoteFailures(backoff) => _ = self.backoffs.lock().insert(own.clone(), backoff),
                Action::RemoveFinalizer { pod, uid } => self.release(&adopter, &pod, &uid).await?,
                Action::Announce { warning, reason, message } => self.cx.tell(self.job, warning, &reason, message),
            }
        }
        failure.map_or(Ok(()), |status: Status| Err(status.into()))
    }

    /// Lets go of a pod that the status counts.
    async fn release(&self, adopter: &Adopter<'_, Pod>, pod: &str, uid: &str) -> Result<(), ReconcileError> {
        let has_policy = self.job.spec.as_ref().is_some_and(|spec| spec.pod_failure_policy.is_some());
        let namespace = self.job.metadata.namespace.clone().unwrap_or_default();
        let seen = if has_policy { self.digests.get(&ObjectKey::new(namespace, pod)) } else { None };
        adopter.remove_finalizer(pod, uid).await?;
        if let Some(seen) = seen {
            metrics::released(self.job, &seen);
        }
        Ok(())
    }

    /// Writes on the version that was read: counting on an older one would count twice.
    async fn write_status(&self, mut status: JobStatus, missing: usize) -> Result<(), ReconcileError> {
        let active = status.active.unwrap_or(0) - i32::try_from(missing).unwrap_or(i32::MAX);
        status.active = some(active.max(0));
        let updated = Job { status: Some(status), ..self.job.clone() };
        write_status(&updated, self.jobs, self.cx).await?;
        if let Some(written) = &updated.status {
            metrics::wrote(self.job, written);
        }
        Ok(())
    }
}

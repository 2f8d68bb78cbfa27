//! Takes the tracking finalizer off pods that no job will count any more: their job is gone or finished, or never was.

use k8s_openapi::{
    Resource,
    api::{batch::v1::Job, core::v1::Pod},
};
use troupe_api::{meta::ObjectKey, projection::MetaProjection};

use super::{FINALIZER, is_finished, is_ours};
use crate::{
    controllers::{
        by_controller,
        owners::{controller_of, remove_finalizer},
    },
    runtime::{
        cache::{Cache, Caches},
        controller::{Backoff, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

/// See the module. Its keys are pods.
pub struct JobOrphanController {
    jobs: Cache<Job>,
    pods: Cache<Pod>,
}

impl JobOrphanController {
    pub fn new(caches: &Caches) -> Self {
        JobOrphanController { jobs: caches.cache(), pods: by_controller::index(caches.cache()) }
    }
}

impl Controller for JobOrphanController {
    const NAME: &'static str = "job-orphan";
    const EVENT_SOURCE: Option<&'static str> = Some("job-controller");
    const BACKOFF: Backoff = Backoff::new(1_000, 60);

    fn watches(&self, watches: &mut Watches<'_>) {
        let tracked = |meta: &MetaProjection| meta.finalizers.iter().any(|finalizer| &**finalizer == FINALIZER);
        watches.map::<Pod>(move |change| change.meta_after().filter(|meta| tracked(meta)).map(|_| change.key.clone()).into_iter().collect());
        let pods = self.pods.clone();
        watches.map::<Job>(move |change| {
            if change.after().is_some_and(|job| !is_finished(job)) {
                return Vec::new();
            }
            let Some(job) = change.after().or(change.before()) else { return Vec::new() };
            let mut left = by_controller::owned_and_orphans_stored(&pods, &job.metadata, tracked);
            left.retain(|pod| tracked(pod.meta()));
            left.iter().map(|pod| pod.key.clone()).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let owner = controller_of(&pod.metadata);
        let job = owner.and_then(|owner| self.jobs.get(&ObjectKey::new(key.namespace.clone(), owner.name.as_str())));
        if !is_orphan(&pod, job.as_ref().map(|cached| &*cached.object)) {
            return Ok(Outcome::Done);
        }
        let api = cx.client().namespaced::<Pod>(key.namespace.clone());
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match remove_finalizer(&api, &key.name, &uid, FINALIZER).await? {
            Some(written) => cx.wrote(&self.pods, &*written),
            None => cx.deleted(&self.pods, key.clone(), uid),
        }
        Ok(Outcome::Done)
    }
}

/// The pod still has to be counted.
fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// Nobody will take the finalizer off: `job` is the one of its owner's name, if there is one.
pub fn is_orphan(pod: &Pod, job: Option<&Job>) -> bool {
    if !is_tracked(pod) {
        return false;
    }
    let Some(owner) = controller_of(&pod.metadata) else { return true };
    if owner.kind != Job::KIND || owner.api_version != Job::API_VERSION {
        return false;
    }
    match job.filter(|job| job.metadata.uid.as_ref() == Some(&owner.uid)) {
        Some(job) => is_finished(job) && is_ours(job),
        None => true,
    }
}

//! `podcertificaterequest-cleaner-controller`: removes requests for certificates of pods (KEP-4317) that have had their time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::certificates::v1beta1::PodCertificateRequest, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use troupe_api::{
    meta::{ObjectKey, time::shifted},
    service::DeleteOptions,
};

use super::at;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Kept for so long, whatever becomes of it: nothing that waits for a certificate takes longer.
const KEPT: SignedDuration = SignedDuration::from_mins(15);
/// Looked at again after this time at the latest.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// See the module.
pub struct PodCertificateRequestCleaner {
    requests: Cache<PodCertificateRequest>,
}

impl PodCertificateRequestCleaner {
    pub fn new(caches: &Caches) -> Self {
        PodCertificateRequestCleaner { requests: caches.cache() }
    }
}

/// How long the request stays from now; `None` for one that goes.
pub(super) fn stays(meta: &ObjectMeta, now: Timestamp) -> Option<Duration> {
    let left = shifted(at(meta.creation_timestamp.as_ref())?, KEPT).duration_since(now);
    left.is_positive().then(|| Duration::try_from(left).unwrap_or(LONGEST).min(LONGEST))
}

impl Controller for PodCertificateRequestCleaner {
    const NAME: &'static str = "podcertificaterequest-cleaner-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<PodCertificateRequest>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(request) = self.requests.get(key) else { return Ok(Outcome::Done) };
        if let Some(left) = stays(&request.object.metadata, cx.now()) {
            return Ok(Outcome::RequeueAfter(left));
        }
        tracing::info!(request = %key, "old request for a certificate of a pod removed");
        let uid = request.object.metadata.uid.clone();
        let options = DeleteOptions { precondition_uid: uid.clone(), ..DeleteOptions::default() };
        match cx.client().namespaced::<PodCertificateRequest>(key.namespace.clone()).delete(&key.name, options).await {
            Ok(()) => cx.deleted(&self.requests, key.clone(), uid.unwrap_or_default()),
            Err(status) if status.is_not_found() || status.is_conflict() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}

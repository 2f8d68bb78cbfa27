//! `csrcleaner`: removes requests that have had their time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use troupe_api::{
    meta::{ObjectKey, time::shifted},
    service::DeleteOptions,
};

use super::{at, conditions, is_issued};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Kept after a verdict.
const SETTLED: SignedDuration = SignedDuration::from_hours(1);
/// Kept while nobody says or signs anything.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Looked at again after this time at the latest.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// See the module.
pub struct CsrCleaner {
    requests: Cache<CertificateSigningRequest>,
}

impl CsrCleaner {
    pub fn new(caches: &Caches) -> Self {
        CsrCleaner { requests: caches.cache() }
    }
}

/// When the request goes.
pub(super) fn goes_at(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let issued = is_issued(request);
    let said = conditions(request).iter().filter_map(|condition| {
        let since = at(condition.last_update_time.as_ref())?;
        match condition.type_.as_str() {
            "Approved" if issued => Some(shifted(since, SETTLED)),
            "Approved" => Some(shifted(since, PENDING)),
            "Denied" | "Failed" => Some(shifted(since, SETTLED)),
            _ => None,
        }
    });
    let ignored = conditions(request).is_empty().then(|| Some(shifted(at(request.metadata.creation_timestamp.as_ref())?, PENDING))).flatten();
    said.chain(ignored).chain(expiry(request)).min()
}

/// The end of the certificate that it got.
fn expiry(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let certificate = request.status.as_ref()?.certificate.as_ref()?;
    Some(troupe_api::auth::x509::facts_of_pem(&certificate.0)?.not_after)
}

impl Controller for CsrCleaner {
    const NAME: &'static str = "csrcleaner";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<CertificateSigningRequest>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(request) = self.requests.get(key) else { return Ok(Outcome::Done) };
        let Some(end) = goes_at(&request.object) else { return Ok(Outcome::Done) };
        let left = end.duration_since(cx.now());
        if left.is_positive() {
            return Ok(Outcome::RequeueAfter(Duration::try_from(left).unwrap_or(LONGEST).min(LONGEST)));
        }
        tracing::info!(request = %key, "old certificate signing request removed");
        let uid = request.object.metadata.uid.clone();
        let options = DeleteOptions { precondition_uid: uid.clone(), ..DeleteOptions::default() };
        match cx.client().all::<CertificateSigningRequest>().delete(&key.name, options).await {
            Ok(()) => cx.deleted(&self.requests, key.clone(), uid.unwrap_or_default()),
            Err(status) if status.is_not_found() || status.is_conflict() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}

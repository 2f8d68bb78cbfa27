//! `csrsigning`: gives approved requests their certificates, as Kubernetes' own signers do, from the cluster's CA.

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::{
    ByteString,
    api::{certificates::v1::CertificateSigningRequest, networking::v1::ServiceCIDR},
};
use troupe_api::{
    auth::node::{ClusterIdentity, Reserved},
    certificates::{
        CLIENT_SIGNER, CertificateAuthority, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER, LEGACY_SIGNER, Policy, SigningRequest, kubelet_client,
        kubelet_serving,
    },
    meta::ObjectKey,
};

use super::{has_condition, is_issued, parse, put, usages, with_condition, with_ranges};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Backoff, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// How long a certificate lasts unless it asks for less, or another time is set.
pub const LASTS: SignedDuration = SignedDuration::from_hours(24 * 365);
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);

/// See the module.
pub struct CsrSigningController {
    requests: Cache<CertificateSigningRequest>,
    authority: Arc<CertificateAuthority>,
    longest: SignedDuration,
    ranges: Cache<ServiceCIDR>,
    cluster: ClusterIdentity,
}

impl CsrSigningController {
    /// A signer of certificates that last for `longest` unless they ask for less (upstream's `--cluster-signing-duration`). No node
    /// gets one that bears a name of the `cluster`.
    pub fn new(caches: &Caches, authority: Arc<CertificateAuthority>, longest: SignedDuration, cluster: ClusterIdentity) -> Self {
        CsrSigningController { requests: caches.cache(), authority, longest, ranges: caches.cache(), cluster }
    }
}

/// Why the signer named in the request refuses; `None` for signers of others.
pub(super) fn accepted(request: &CertificateSigningRequest, asked: &SigningRequest, cluster: &ClusterIdentity) -> Option<Result<(), String>> {
    let usages = usages(request);
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT_SIGNER => Some(kubelet_client(asked, usages).map_err(|refusal| refusal.to_string())),
        KUBELET_SERVING_SIGNER => {
            let fits = kubelet_serving(asked, usages).map_err(|refusal| refusal.to_string());
            Some(fits.and_then(|()| of_a_machine(asked, cluster)))
        }
        CLIENT_SIGNER => Some(client_usages(usages)),
        LEGACY_SIGNER => Some(Ok(())),
        _ => None,
    }
}

/// Whoever approved it: nothing in it may stand for the cluster. An API server's address may be a node's on the same machine.
fn of_a_machine(asked: &SigningRequest, cluster: &ClusterIdentity) -> Result<(), String> {
    let names = asked.dns_names.iter().filter_map(|name| Some((name.clone(), cluster.name(name)?)));
    let ips = asked.ips.iter().filter_map(|ip| Some((ip.to_string(), cluster.address(*ip).filter(|reserved| *reserved != Reserved::Server)?)));
    match names.chain(ips).next() {
        Some((name, reserved)) => Err(format!("{name} is {}", reserved.what())),
        None => Ok(()),
    }
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let optional = ["client auth", "digital signature", "key encipherment"];
    if let Some(odd) = usages.iter().find(|usage| !optional.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {odd}"));
    }
    if usages.iter().any(|usage| usage == "client auth") { Ok(()) } else { Err("missing required usage for client certificate: client auth".into()) }
}

/// How long the certificate lasts: as asked, within bounds.
pub(super) fn lasts(expiration_seconds: Option<i32>, longest: SignedDuration) -> SignedDuration {
    let asked = expiration_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()).max(SHORTEST));
    asked.map_or(longest, |asked| asked.min(longest))
}

impl Controller for CsrSigningController {
    const NAME: &'static str = "csrsigning";
    const BACKOFF: Backoff = Backoff::new(200, 1_000);

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<CertificateSigningRequest>();
        watches.reads::<ServiceCIDR>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(request) = self.requests.get(key) else { return Ok(Outcome::Done) };
        let request = &request.object;
        if !has_condition(request, "Approved") || has_condition(request, "Denied") || has_condition(request, "Failed") || is_issued(request) {
            return Ok(Outcome::Done);
        }
        let asked = parse(request).map_err(|error| ReconcileError::Other(format!("unable to parse csr {:?}: {error}", key.name)))?;
        match accepted(request, &asked, &with_ranges(&self.cluster, &self.ranges)) {
            None => return Ok(Outcome::Done),
            Some(Err(why)) => return put(cx, &self.requests, "status", &with_condition(request, "Failed", "SignerValidationFailure", why)).await,
            Some(Ok(())) => {}
        }
        let policy = Policy { usages: usages(request), lasts: lasts(request.spec.expiration_seconds, self.longest), now: cx.now() };
        let certificate = self.authority.sign(&asked, &policy).map_err(|error| ReconcileError::Other(format!("error auto signing csr: {error}")))?;
        let mut signed = (**request).clone();
        signed.status.get_or_insert_default().certificate = Some(ByteString(certificate.into_bytes()));
        tracing::info!(request = %key, signer = request.spec.signer_name, subject = asked.common_name, "certificate signed");
        put(cx, &self.requests, "status", &signed).await
    }
}

//! Certificate signing requests: approving those of nodes, signing what is approved, removing what is old. And removing old requests for
//! certificates of pods, which others sign.
//!
//! In: requests, and for serving certificates nodes. Out: approvals, certificates, deletions. What `auth::certificates`
//! says about a request decides; who may ask for it is asked of the API.

mod approver;
mod cleaner;
mod pod_requests;
mod serving;
mod signer;
#[cfg(test)]
mod tests;

use k8s_openapi::{
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
        networking::v1::ServiceCIDR,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use troupe_api::{
    auth::node::ClusterIdentity,
    certificates::{RequestError, SigningRequest},
};

pub use self::{
    approver::CsrApprovingController,
    cleaner::CsrCleaner,
    pod_requests::PodCertificateRequestCleaner,
    serving::KubeletServingApprover,
    signer::{CsrSigningController, LASTS},
};
use super::service_cidr::ranges as service_ranges;
use crate::runtime::{
    cache::Cache,
    controller::{Outcome, ReconcileContext, ReconcileError},
};

fn has_condition(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|status| status.certificate.as_ref()).is_some_and(|certificate| !certificate.0.is_empty())
}

/// Nobody has said anything about it yet.
fn is_pending(request: &CertificateSigningRequest) -> bool {
    !is_issued(request) && !has_condition(request, "Approved") && !has_condition(request, "Denied")
}

fn parse(request: &CertificateSigningRequest) -> Result<SigningRequest, RequestError> {
    SigningRequest::from_pem(&request.spec.request.0)
}

fn usages(request: &CertificateSigningRequest) -> &[String] {
    request.spec.usages.as_deref().unwrap_or_default()
}

/// What is known of the cluster, with the ranges of all its ServiceCIDRs, also of those that are not Ready: a node never has an address there.
fn with_ranges(cluster: &ClusterIdentity, ranges: &Cache<ServiceCIDR>) -> ClusterIdentity {
    let mut cluster = cluster.clone();
    cluster.service_ranges.extend(ranges.list("").iter().flat_map(|range| service_ranges(range)));
    cluster
}

/// The same request with another condition.
fn with_condition(request: &CertificateSigningRequest, kind: &str, reason: &str, message: String) -> CertificateSigningRequest {
    let mut changed = request.clone();
    changed.status.get_or_insert_default().conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: None,
        last_transition_time: None,
    });
    changed
}

/// Puts the request to its subresource, unless it is gone.
async fn put(
    cx: &ReconcileContext,
    cache: &Cache<CertificateSigningRequest>,
    subresource: &str,
    request: &CertificateSigningRequest,
) -> Result<Outcome, ReconcileError> {
    let name = request.metadata.name.clone().unwrap_or_default();
    let body = serde_json::to_value(request).map_err(|error| ReconcileError::Other(error.to_string()))?;
    let body = troupe_api::meta::Object::from_value(body).ok_or_else(|| ReconcileError::Other("a request encodes to an object".into()))?;
    match cx.client().all::<CertificateSigningRequest>().update_raw(&name, subresource, body).await {
        Ok(written) => {
            cx.wrote(cache, &*written);
            Ok(Outcome::Done)
        }
        Err(status) if status.is_not_found() => Ok(Outcome::Done),
        Err(status) => Err(status.into()),
    }
}

fn at(time: Option<&Time>) -> Option<jiff::Timestamp> {
    time.map(|time| time.0)
}

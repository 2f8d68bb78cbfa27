//! `csrapproving`: approves client certificates of kubelets for whoever may have them.
//!
//! A node's own renewal needs the right to create `certificatesigningrequests/selfnodeclient`; somebody who bootstraps a
//! node needs `nodeclient`, and gets nobody's identity who is there and well.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    certificates::v1::CertificateSigningRequest,
    core::v1::Node,
};
use troupe_api::{
    certificates::{KUBELET_CLIENT_SIGNER, SigningRequest, kubelet_client},
    meta::{ObjectKey, names},
};

use super::{is_pending, parse, put, usages, with_condition};
use crate::{
    controllers::nodes::is_ready,
    runtime::{
        cache::{Cache, Caches},
        controller::{Backoff, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

/// Whoever asks for the identity of a node that is well is heard again after this time.
const WELL: Duration = Duration::from_secs(10);

/// See the module.
pub struct CsrApprovingController {
    requests: Cache<CertificateSigningRequest>,
    nodes: Cache<Node>,
}

impl CsrApprovingController {
    pub fn new(caches: &Caches) -> Self {
        CsrApprovingController { requests: caches.cache(), nodes: caches.cache() }
    }

    /// Somebody else than the node asks for a node's identity, and that node is there and Ready.
    fn is_takeover(&self, request: &CertificateSigningRequest, asked: &SigningRequest) -> bool {
        let own = request.spec.username.as_deref() == Some(&*asked.common_name);
        let name = asked.common_name.strip_prefix("system:node:").unwrap_or_default();
        let node = self.nodes.get(&ObjectKey::cluster(name)).filter(|_| !own);
        node.is_some_and(|node| is_ready(&node.object))
    }
}

/// Whether a node can have the name for which an identity is asked. Upstream asks for no more than the prefix; but what follows it stands
/// in rules, paths and addresses as if it were a node's name.
pub(super) fn names_a_node(common_name: &str) -> bool {
    common_name.strip_prefix("system:node:").is_some_and(|name| names::subdomain(name, false).is_empty())
}

/// The rights each of which is enough, with what an approval by it says.
pub(super) fn recognised(request: &CertificateSigningRequest, asked: &SigningRequest) -> Vec<(&'static str, &'static str)> {
    let is_for_a_kubelet = request.spec.signer_name == KUBELET_CLIENT_SIGNER && kubelet_client(asked, usages(request)).is_ok();
    if !is_for_a_kubelet || !names_a_node(&asked.common_name) {
        return Vec::new();
    }
    let own = request.spec.username.as_deref() == Some(&*asked.common_name);
    let renewal = own.then_some(("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."));
    renewal.into_iter().chain([("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")]).collect()
}

/// May whoever made the request create this subresource?
async fn may(request: &CertificateSigningRequest, subresource: &str, cx: &ReconcileContext) -> Result<bool, ReconcileError> {
    let spec = &request.spec;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone().map(|extra| extra.into_iter().collect::<BTreeMap<_, _>>()),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                resource: Some("certificatesigningrequests".into()),
                subresource: Some(subresource.into()),
                verb: Some("create".into()),
                version: Some("*".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = cx.client().all::<SubjectAccessReview>().create(&review).await?;
    Ok(answer.status.as_ref().is_some_and(|status| status.allowed))
}

impl Controller for CsrApprovingController {
    const NAME: &'static str = "csrapproving";
    const BACKOFF: Backoff = Backoff::new(200, 1_000);

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<CertificateSigningRequest>();
        watches.reads::<Node>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(request) = self.requests.get(key).filter(|request| is_pending(&request.object)) else { return Ok(Outcome::Done) };
        let request = &request.object;
        let asked = parse(request).map_err(|error| ReconcileError::Other(format!("unable to parse csr {:?}: {error}", key.name)))?;
        let ways = recognised(request, &asked);
        if !ways.is_empty() && self.is_takeover(request, &asked) {
            tracing::info!(request = %key, node = asked.common_name, "client certificate waits: this node is there and Ready");
            return Ok(Outcome::RequeueAfter(WELL));
        }
        for (subresource, message) in &ways {
            if may(request, subresource, cx).await? {
                tracing::info!(request = %key, node = asked.common_name, "client certificate approved");
                return put(cx, &self.requests, "approval", &with_condition(request, "Approved", "AutoApproved", (*message).to_owned())).await;
            }
        }
        if ways.is_empty() {
            return Ok(Outcome::Done);
        }
        // Rights may be given later.
        let tried = ways.iter().map(|(subresource, _)| *subresource).collect::<Vec<_>>().join(" ");
        Err(ReconcileError::Other(format!("recognized csr {:?} as [{tried}] but subject access review was not approved", key.name)))
    }
}

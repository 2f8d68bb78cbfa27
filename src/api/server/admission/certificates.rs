//! `CertificateApproval`, `CertificateSigning`, `ClusterTrustBundleAttest`, `CertificateSubjectRestriction`: who may approve and sign for a
//! signer, and say whom its certificates are trusted by, and what no signer of clients may be asked for.

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    auth::{groups::MASTERS, signers},
    certificates::{CLIENT_SIGNER, SigningRequest},
    meta::Object,
    status::Status,
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// Approving or denying needs the verb `approve` on the signer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CertificateApproval;

/// Writing a certificate or a verdict needs the verb `sign` on the signer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CertificateSigning;

/// Writing a bundle of a signer's trust anchors needs the verb `attest` on the signer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterTrustBundleAttest;

/// Nobody gets into `system:masters` by a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct CertificateSubjectRestriction;

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::UPDATES
    }
}

#[async_trait]
impl ValidatingPlugin for CertificateApproval {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let Some(old) = request.old.filter(|_| concerns(request, Operation::Update, "approval")) else { return Ok(()) };
        let signer = old.str(&["spec", "signerName"]);
        if may(request, "approve", signer).await {
            return Ok(());
        }
        Err(request.forbidden(format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::UPDATES
    }
}

#[async_trait]
impl ValidatingPlugin for CertificateSigning {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let Some(old) = request.old.filter(|_| concerns(request, Operation::Update, "status")) else { return Ok(()) };
        let Some(new) = request.object() else { return Ok(()) };
        let same_certificate = new.str(&["status", "certificate"]) == old.str(&["status", "certificate"]);
        if same_certificate && new.list(&["status", "conditions"]) == old.list(&["status", "conditions"]) {
            return Ok(());
        }
        let signer = old.str(&["spec", "signerName"]);
        if may(request, "sign", signer).await {
            return Ok(());
        }
        Err(request.forbidden(format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl ValidatingPlugin for ClusterTrustBundleAttest {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is_main("certificates.k8s.io", "clustertrustbundles") {
            return Ok(());
        }
        let Some(new) = request.object() else { return Ok(()) };
        // The new object's may be asked about: validation refuses another one than before.
        let signer = new.str(&["spec", "signerName"]);
        let is_left_alone = || request.old.is_some_and(|old| is_same_but_for_the_collector(new, old));
        if signer.is_empty() || is_left_alone() || may(request, "attest", signer).await {
            return Ok(());
        }
        Err(request.forbidden(format!("user not permitted to attest for signerName {signer:?}")))
    }
}

/// Whether an update changes nothing, or only what the garbage collector does. Storage migrations write objects as they are.
fn is_same_but_for_the_collector(new: &Object, old: &Object) -> bool {
    let without = |object: &Object| {
        let mut rest = object.clone();
        for field in ["finalizers", "ownerReferences", "managedFields", "resourceVersion"] {
            rest.remove(&["metadata", field]);
        }
        rest
    };
    without(new) == without(old)
}

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl ValidatingPlugin for CertificateSubjectRestriction {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if !concerns(request, Operation::Create, "") {
            return Ok(());
        }
        let Some(object) = request.object().filter(|object| object.str(&["spec", "signerName"]) == CLIENT_SIGNER) else { return Ok(()) };
        let asked = SigningRequest::from_base64(object.get(&["spec", "request"]).and_then(Value::as_str).unwrap_or_default());
        let asked = asked.map_err(|error| request.forbidden(format!("failed to parse CSR: {error}")))?;
        if asked.organizations.iter().any(|group| group == MASTERS) {
            return Err(request.forbidden(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")));
        }
        Ok(())
    }
}

fn concerns(request: &Attributes<'_>, operation: Operation, subresource: &str) -> bool {
    let resource = &request.target.resource;
    request.operation == operation
        && *request.target.subresource == *subresource
        && (&*resource.group, &*resource.plural) == ("certificates.k8s.io", "certificatesigningrequests")
}

/// Whether the caller holds `verb` on the signer, by its name or by its domain.
async fn may(request: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let Some(authorizer) = request.reads.authorizer() else { return true };
    signers::may(&**authorizer, request.user, verb, signer).await
}

//! `CertificateApproval`, `CertificateSigning`, `CertificateSubjectRestriction`: who may approve and sign for a signer,
//! and what no signer of clients may be asked for.

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    auth::{self, Decision, groups::MASTERS},
    certificates::{CLIENT_SIGNER, SigningRequest},
    status::Status,
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// Approving or denying needs the verb `approve` on the signer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CertificateApproval;

/// Writing a certificate or a verdict needs the verb `sign` on the signer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CertificateSigning;

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
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    for name in [signer, &domain] {
        let attributes =
            auth::Attributes { verb, group: "certificates.k8s.io", version: "*", resource: "signers", name, ..auth::Attributes::default() };
        if auth::decide(&**authorizer, request.user, &attributes).await == Decision::Allow {
            return true;
        }
    }
    false
}

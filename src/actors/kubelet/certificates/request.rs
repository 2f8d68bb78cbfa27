//! One certificate through the CertificateSigningRequest API.

use std::time::Duration;

use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
};
use thiserror::Error;
use troupe_api::{Status, auth::pki::KeyedCertificate, certificates::Draft};
use troupe_api_client::Client;

use super::Purpose;

/// How long approval and signature may take; an administrator may have to approve.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often the request is looked at: quickly at first, as approval usually takes no time.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum NotIssued {
    #[error("cannot make a request for {name}")]
    Draft { name: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the API refuses the certificate signing request: {0}")]
    Refused(#[source] Status),
    #[error("the certificate signing request {request} was denied: {why}")]
    Denied { request: String, why: String },
    #[error("the signer refuses the certificate signing request {request}: {why}")]
    Failed { request: String, why: String },
    #[error("the certificate signing request {0} was not approved and signed in time")]
    TimedOut(String),
    #[error("the certificate of {0} is no PEM text")]
    Encoding(String),
}

/// Asks for a certificate and waits for it.
///
/// # Errors
/// When the request is refused, denied, or not answered in time.
pub async fn request(client: &Client, draft: &Draft, purpose: Purpose, lasts: Option<Duration>) -> Result<KeyedCertificate, NotIssued> {
    let keyed = draft.with_new_key().map_err(|source| NotIssued::Draft { name: draft.common_name.clone(), source: source.into() })?;
    let mut wanted = CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(keyed.request_pem.into_bytes()),
            signer_name: purpose.signer().into(),
            usages: Some(purpose.usages().map(str::to_owned).to_vec()),
            expiration_seconds: lasts.map(|lasts| i32::try_from(lasts.as_secs()).unwrap_or(i32::MAX)),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    wanted.metadata.generate_name = Some("csr-".into());
    let api = client.all::<CertificateSigningRequest>();
    let made = api.create(&wanted).await.map_err(NotIssued::Refused)?;
    let name = made.metadata.name.clone().unwrap_or_default();
    tracing::info!(request = name, ?purpose, "certificate asked for");
    let (deadline, mut pause) = (tokio::time::Instant::now() + PATIENCE, FIRST_LOOK);
    loop {
        let known = api.get(&name).await.map_err(NotIssued::Refused)?;
        if let Some(certificate) = answer(&known, &name)? {
            return Ok(KeyedCertificate { certificate_pem: certificate, key_pem: keyed.key_pem });
        }
        if tokio::time::Instant::now() > deadline {
            return Err(NotIssued::TimedOut(name));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LAST_LOOK);
    }
}

/// What has become of a request: a certificate, or nothing yet.
fn answer(known: &CertificateSigningRequest, name: &str) -> Result<Option<String>, NotIssued> {
    let Some(status) = &known.status else { return Ok(None) };
    for condition in status.conditions.iter().flatten().filter(|condition| condition.status == "True") {
        let (request, why) = (name.to_owned(), condition.message.clone().unwrap_or_default());
        match condition.type_.as_str() {
            "Denied" => return Err(NotIssued::Denied { request, why }),
            "Failed" => return Err(NotIssued::Failed { request, why }),
            _ => {}
        }
    }
    let Some(certificate) = status.certificate.as_ref().filter(|certificate| !certificate.0.is_empty()) else { return Ok(None) };
    String::from_utf8(certificate.0.clone()).map(Some).map_err(|_| NotIssued::Encoding(name.to_owned()))
}

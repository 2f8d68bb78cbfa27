//! What the signers for kubelets take. Pure.

use std::collections::BTreeSet;

use thiserror::Error;

use super::SigningRequest;

/// Why a signer refuses, in upstream's words.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("subject organization is not system:nodes")]
    Organization,
    #[error("subject common name does not begin with system:node:")]
    CommonName,
    #[error("DNS or IP subjectAltName is required")]
    NoNames,
    #[error("DNS subjectAltNames are not allowed")]
    Dns,
    #[error("Email subjectAltNames are not allowed")]
    Email,
    #[error("IP subjectAltNames are not allowed")]
    Ip,
    #[error("URI subjectAltNames are not allowed")]
    Uri,
    #[error("usages did not match [digital signature key encipherment {0}]")]
    Usages(&'static str),
}

/// A kubelet's client certificate: the node's name and nothing beside it.
pub fn kubelet_client(request: &SigningRequest, usages: &[String]) -> Result<(), Refusal> {
    of_nodes(request)?;
    let unwanted = [
        (request.dns_names.is_empty(), Refusal::Dns),
        (request.emails.is_empty(), Refusal::Email),
        (request.ips.is_empty(), Refusal::Ip),
        (request.uris.is_empty(), Refusal::Uri),
    ];
    if let Some((_, refusal)) = unwanted.into_iter().find(|(absent, _)| !absent) {
        return Err(refusal);
    }
    named_node(request)?;
    usages_are(usages, "client auth")
}

/// A kubelet's serving certificate: the node's addresses.
pub fn kubelet_serving(request: &SigningRequest, usages: &[String]) -> Result<(), Refusal> {
    of_nodes(request)?;
    if request.dns_names.is_empty() && request.ips.is_empty() {
        return Err(Refusal::NoNames);
    }
    if !request.emails.is_empty() {
        return Err(Refusal::Email);
    }
    if !request.uris.is_empty() {
        return Err(Refusal::Uri);
    }
    usages_are(usages, "server auth")?;
    named_node(request)
}

fn of_nodes(request: &SigningRequest) -> Result<(), Refusal> {
    if request.organizations == ["system:nodes"] { Ok(()) } else { Err(Refusal::Organization) }
}

fn named_node(request: &SigningRequest) -> Result<(), Refusal> {
    if request.common_name.starts_with("system:node:") { Ok(()) } else { Err(Refusal::CommonName) }
}

/// Digital signature and `auth`, with or without key encipherment, which only RSA keys do.
fn usages_are(usages: &[String], auth: &'static str) -> Result<(), Refusal> {
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).filter(|usage| *usage != "key encipherment").collect();
    if given == BTreeSet::from(["digital signature", auth]) { Ok(()) } else { Err(Refusal::Usages(auth)) }
}

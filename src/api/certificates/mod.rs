//! Certificates on request: reading PKCS#10 requests, the rules of Kubernetes' own signers, signing.
//!
//! In: a request as a client made it, and the usages it asks for. Out: what it asks for, why a signer would refuse,
//! or a certificate; and on the asking side, a key and a request. Nothing here decides who may have what; the API's approvers do.

mod authority;
mod blocks;
mod draft;
mod encoding;
mod keys;
pub mod possession;
pub mod private_key;
mod request;
mod rules;
#[cfg(test)]
mod tests;
mod usages;

use std::net::IpAddr;

pub use authority::{CertificateAuthority, Policy, SignError};
pub use blocks::{PemBlock, pem_blocks};
pub use draft::{Draft, KeyedRequest};
pub use encoding::{cleaned_chain, pem};
pub use keys::{KeyError, ProvenKey, p521};
pub use request::{RequestError, SigningRequest};
pub use rules::{Refusal, kubelet_client, kubelet_serving};
pub use usages::{ALL as ALL_USAGES, UnknownUsage};

/// Client certificates of whoever an administrator approves.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Client certificates of kubelets.
pub const KUBELET_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Serving certificates of kubelets.
pub const KUBELET_SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// What old clients asked for without naming a signer.
pub const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

/// The address that a certificate spells as octets.
pub fn ip_of(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}

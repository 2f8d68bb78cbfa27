//! Who calls, and may they: PKI, authenticators, tokens, authorizers and RBAC's bootstrap policy.

pub mod kubeconfig;
pub mod pki;
pub mod tls;

use crate::{service::UserInfo, status::Status};

/// What an authorizer is asked (`authorization.k8s.io` attributes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, …; lower-case HTTP method for non-resource paths.
    pub verb: &'a str,
    /// Empty for non-resource requests.
    pub resource: &'a str,
    pub subresource: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Set for non-resource requests, such as `/healthz`.
    pub path: Option<&'a str>,
}

/// An authorizer's answer. `NoOpinion` lets the next authorizer speak; at the end of the chain it denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny(String),
    NoOpinion(String),
}

/// Decides whether a user may do something. Synchronous: authorizers read caches.
pub trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision;
}

/// Credentials of a request as the edge found them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// DER of the verified client certificate.
    pub client_certificate: Option<&'a [u8]>,
    /// The bearer token.
    pub bearer: Option<&'a str>,
}

/// Finds out who calls.
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)` when no credential of this kind is present; `Err(401)` when one is present and wrong.
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status>;
}

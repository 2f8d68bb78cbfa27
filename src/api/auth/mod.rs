//! Who calls, and may they: PKI, authenticators, tokens, authorizers and RBAC's bootstrap policy.

mod anchored;
pub mod bootstrap;
pub mod bootstrap_tokens;
pub mod chain;
pub mod exchange;
mod followed;
pub mod groups;
pub mod kubeconfig;
pub mod named_certificates;
pub mod node;
pub mod peer;
pub mod pki;
pub mod policy_parameters;
pub mod rbac;
pub mod renewable_authorities;
pub mod request_header;
pub mod reviews;
pub mod signers;
pub mod tls;
pub mod tls_policy;
pub mod token_file;
pub mod tokens;
mod unverified;
pub mod x509;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use self::unverified::{any_peer, unverifying};
use crate::{
    meta::{FieldSelector, GroupResource, LabelSelector},
    notices::Notices,
    service::UserInfo,
    status::Status,
};

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
    /// What lists, watches and collection deletes select by; nothing where the request says nothing.
    pub selection: Selection<'a>,
}

/// What a request selects objects by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    pub labels: Option<&'a LabelSelector>,
    pub fields: Option<&'a FieldSelector>,
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

    /// The decision of one that asks others; nothing from those that know by themselves. [`Authorizer::authorize`] of one that asks knows
    /// what it was told before.
    fn decide<'a>(&'a self, _user: &'a UserInfo, _attributes: &'a Attributes<'a>) -> Option<BoxFuture<'a, Decision>> {
        None
    }

    /// Whether it ever asks others.
    fn asks(&self) -> bool {
        false
    }

    /// The decision and why, as access reviews show it. Authorizers that know why they allow say so here.
    fn explain(&self, user: &UserInfo, attributes: &Attributes<'_>) -> (Decision, String) {
        let decision = self.authorize(user, attributes);
        let reason = match &decision {
            Decision::Allow => String::new(),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => reason.clone(),
        };
        (decision, reason)
    }

    /// The roles and bindings that it decides by, if it does.
    fn rbac(&self) -> Option<&rbac::Resolver> {
        None
    }

    /// What a user may do in a namespace, for `SelfSubjectRulesReview`. The default knows nothing and says so.
    fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> UserRules {
        UserRules { rules: Vec::new(), incomplete: true, errors: Vec::new() }
    }
}

/// The decision of an authorizer, also of one that asks others.
pub async fn decide(authorizer: &dyn Authorizer, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
    match authorizer.decide(user, attributes) {
        Some(asking) => asking.await,
        None => authorizer.authorize(user, attributes),
    }
}

/// The rules that apply to a user in a namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserRules {
    pub rules: Vec<Arc<rbac::rules::Rule>>,
    /// There may be more: an authorizer cannot list its rules, or could not read some.
    pub incomplete: bool,
    pub errors: Vec<String>,
}

/// The 403 of a request that no authorizer allowed, in upstream's words.
pub fn forbidden(user: &UserInfo, attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = format!("User {:?} cannot {} ", user.name, attributes.verb);
    match attributes.path {
        Some(path) => why.push_str(&format!("path {path:?}")),
        None => {
            let slash = if attributes.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{slash}{}", attributes.resource, attributes.subresource);
            let scope = match attributes.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            why.push_str(&format!("resource {resource:?} in API group {:?} {scope}", attributes.group));
        }
    }
    // Replies must not look like HTML, whatever names a client sends.
    why = why.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    Status::forbidden(&GroupResource::new(attributes.group, attributes.resource), attributes.name, why)
}

/// Credentials of a request as the edge found them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// DER of the verified client certificate.
    pub client_certificate: Option<&'a [u8]>,
    /// The bearer token.
    pub bearer: Option<&'a str>,
    /// Hears what is to be said about them beside the answer: to the client, and in the audit event.
    pub notices: Option<&'a Notices>,
}

/// Finds out who calls.
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)` when no credential of this kind is present; `Err(401)` when one is present and wrong.
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status>;

    /// Whose token this is and which of `audiences` it is for, for `TokenReview`; empty `audiences` stand for the API
    /// server's. `Ok(None)` when no authenticator knows such tokens, `Err` says what is wrong with it.
    fn review_token(&self, _token: &str, _audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        Ok(None)
    }

    /// What [`Authenticator::authenticate`] of one that asks others comes to; nothing from those that know by themselves.
    fn ask<'a>(&'a self, _credentials: &'a Credentials<'a>) -> Option<BoxFuture<'a, Result<Option<UserInfo>, Status>>> {
        None
    }

    /// The same of [`Authenticator::review_token`].
    fn ask_review<'a>(&'a self, _token: &'a str, _audiences: &'a [String]) -> Option<BoxFuture<'a, Result<Option<TokenOwner>, String>>> {
        None
    }

    /// Whether it ever asks others.
    fn asks(&self) -> bool {
        false
    }
}

/// Who calls, also where others are asked.
///
/// # Errors
/// 401 when a credential is wrong.
pub async fn identify(authenticator: &dyn Authenticator, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
    match authenticator.ask(credentials) {
        Some(asking) => asking.await,
        None => authenticator.authenticate(credentials),
    }
}

/// The owner of a token under review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    pub user: UserInfo,
    /// Those of the audiences asked for that the token is for.
    pub audiences: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_reads_as_upstream_writes_it() {
        let user = UserInfo { name: "x".into(), ..UserInfo::default() };
        let pods = Attributes { verb: "get", resource: "pods", namespace: "default", name: "p", ..Attributes::default() };
        let status = forbidden(&user, &pods, "");
        assert_eq!(status.message, "pods \"p\" is forbidden: User \"x\" cannot get resource \"pods\" in API group \"\" in the namespace \"default\"");
        let scale = Attributes { verb: "update", resource: "deployments", subresource: "scale", group: "apps", ..Attributes::default() };
        let message = forbidden(&user, &scale, "RBAC: why").message;
        let want = "deployments.apps is forbidden: User \"x\" cannot update resource \"deployments/scale\" in API group \"apps\" at the cluster scope: RBAC: why";
        assert_eq!(message, want);
        let path = Attributes { verb: "get", path: Some("/healthz"), ..Attributes::default() };
        assert_eq!(forbidden(&user, &path, "").message, "forbidden: User \"x\" cannot get path \"/healthz\"");
    }
}

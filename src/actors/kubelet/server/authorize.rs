//! Who asks the kubelet, and may they.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::{Method, Request, header};
use troupe_api::{
    auth::{Attributes, Authenticator, Authorizer, Credentials, Decision},
    service::UserInfo,
};

use super::route::{subresources, verb};

/// Why a request is not served, with its HTTP code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: u16,
    pub text: String,
}

/// Knows callers and what they may do.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Who calls; `None` when the credentials are wrong or there are none.
    async fn identify(&self, credentials: Credentials<'_>) -> Option<UserInfo>;

    /// Whether a user may do `verb` on a subresource of the node.
    async fn allows(&self, user: &UserInfo, node: &str, verb: &str, subresource: &str) -> bool;
}

/// A gate that asks authenticator and authorizer of the same process.
pub struct LocalGate {
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
}

/// What an authorizer is asked about an access to the kubelet.
pub(super) fn attributes<'a>(node: &'a str, verb: &'a str, subresource: &'a str) -> Attributes<'a> {
    Attributes { verb, resource: "nodes", subresource, version: "v1", name: node, ..Attributes::default() }
}

#[async_trait]
impl Gate for LocalGate {
    async fn identify(&self, credentials: Credentials<'_>) -> Option<UserInfo> {
        self.authenticator.authenticate(&credentials).ok().flatten()
    }

    async fn allows(&self, user: &UserInfo, node: &str, verb: &str, subresource: &str) -> bool {
        self.authorizer.authorize(user, &attributes(node, verb, subresource)) == Decision::Allow
    }
}

/// Lets a request in that is authenticated and allowed to access the node so.
///
/// # Errors
/// 401 or 403 in upstream's words.
pub async fn admit<B>(request: &Request<B>, certificate: Option<&[u8]>, node: &str, gate: &dyn Gate) -> Result<(), Refused> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer_of);
    let (verb, wanted) = (verb(request.method()), subresources(request.uri().path()));
    let found = gate.identify(Credentials { client_certificate: certificate, bearer }).await;
    let user = found.ok_or_else(|| Refused { code: 401, text: "Unauthorized".into() })?;
    for subresource in &wanted {
        if gate.allows(&user, node, verb, subresource).await {
            return Ok(());
        }
    }
    let text = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n", user.name, wanted.join(" "));
    Err(Refused { code: 403, text })
}

fn bearer_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

/// Only these are served.
pub fn takes(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::POST | Method::HEAD)
}

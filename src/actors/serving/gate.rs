//! Who asks, and may they.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::{Request, header};
use troupe_api::{
    auth::{self, Attributes, Authenticator, Authorizer, Credentials, Decision},
    service::UserInfo,
};

use super::listen::Client;

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

    /// Whether a user may do this.
    async fn allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool;
}

/// A gate that asks authenticator and authorizer of the same process.
pub struct LocalGate {
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
}

#[async_trait]
impl Gate for LocalGate {
    async fn identify(&self, credentials: Credentials<'_>) -> Option<UserInfo> {
        auth::identify(&*self.authenticator, &credentials).await.ok().flatten()
    }

    async fn allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        auth::decide(&*self.authorizer, user, attributes).await == Decision::Allow
    }
}

/// Who sends a request.
///
/// # Errors
/// 401 in upstream's words, 429 when the user has too many connections.
pub async fn identify<B>(request: &Request<B>, certificate: Option<&[u8]>, gate: &dyn Gate) -> Result<UserInfo, Refused> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer_of);
    let found = gate.identify(Credentials { client_certificate: certificate, bearer, notices: None }).await;
    let user = found.ok_or_else(|| Refused { code: 401, text: "Unauthorized".into() })?;
    match request.extensions().get::<Client>().map_or(Ok(()), |client| client.identified(&user)) {
        Ok(()) => Ok(user),
        Err(status) => Err(Refused { code: status.code, text: status.message }),
    }
}

fn bearer_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

//! Lets code that cannot wait ask those who ask others: on a thread where waiting is no harm.

use std::sync::Arc;

use tokio::runtime::Handle;
use troupe_api::{
    auth::{Attributes, Authenticator, Authorizer, Credentials, Decision, TokenOwner, UserRules, decide, identify, rbac::Resolver},
    service::UserInfo,
    status::Status,
};

/// An authorizer whose every answer is waited for. Only for threads of `spawn_blocking`.
pub struct BlockingAuthorizer {
    inner: Arc<dyn Authorizer>,
    home: Handle,
}

impl BlockingAuthorizer {
    pub fn new(inner: Arc<dyn Authorizer>, home: Handle) -> Self {
        BlockingAuthorizer { inner, home }
    }
}

impl Authorizer for BlockingAuthorizer {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        self.home.block_on(decide(&*self.inner, user, attributes))
    }

    fn explain(&self, user: &UserInfo, attributes: &Attributes<'_>) -> (Decision, String) {
        match self.authorize(user, attributes) {
            // Who knows by itself why it allows says so.
            Decision::Allow => match self.inner.explain(user, attributes) {
                (Decision::Allow, reason) => (Decision::Allow, reason),
                _ => (Decision::Allow, String::new()),
            },
            Decision::Deny(reason) => (Decision::Deny(reason.clone()), reason),
            Decision::NoOpinion(reason) => (Decision::NoOpinion(reason.clone()), reason),
        }
    }

    fn rbac(&self) -> Option<&Resolver> {
        self.inner.rbac()
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        self.inner.rules_for(user, namespace)
    }
}

/// The same for authenticators.
pub struct BlockingAuthenticator {
    inner: Arc<dyn Authenticator>,
    home: Handle,
}

impl BlockingAuthenticator {
    pub fn new(inner: Arc<dyn Authenticator>, home: Handle) -> Self {
        BlockingAuthenticator { inner, home }
    }
}

impl Authenticator for BlockingAuthenticator {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        self.home.block_on(identify(&*self.inner, credentials))
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        match self.inner.ask_review(token, audiences) {
            Some(asking) => self.home.block_on(asking),
            None => self.inner.review_token(token, audiences),
        }
    }
}

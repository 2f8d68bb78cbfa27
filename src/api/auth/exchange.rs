//! Authenticators and authorizers that are exchanged while requests come in: those of configurations that may change.
//!
//! A request that has begun ends with those that it began with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;

use super::{
    Attributes, Authenticator, Authorizer, Credentials, Decision, TokenOwner, UserRules, chain::AuthorizerChain, decide, identify, rbac::Resolver,
};
use crate::{
    service::UserInfo,
    status::{Status, aggregate},
};

/// Those who know tokens of others. The first that knows one wins.
pub struct ExchangedAuthenticators(ArcSwap<Vec<Arc<dyn Authenticator>>>);

impl ExchangedAuthenticators {
    pub fn new(links: Vec<Arc<dyn Authenticator>>) -> Arc<Self> {
        Arc::new(ExchangedAuthenticators(ArcSwap::from_pointee(links)))
    }

    pub fn exchange(&self, links: Vec<Arc<dyn Authenticator>>) {
        self.0.store(Arc::new(links));
    }
}

impl Authenticator for ExchangedAuthenticators {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        let mut refusal = None;
        for link in &**self.0.load() {
            match link.authenticate(credentials) {
                Ok(Some(user)) => return Ok(Some(user)),
                Ok(None) => {}
                Err(status) => refusal = Some(status),
            }
        }
        refusal.map_or(Ok(None), Err)
    }

    fn ask<'a>(&'a self, credentials: &'a Credentials<'a>) -> Option<BoxFuture<'a, Result<Option<UserInfo>, Status>>> {
        // They take tokens and nothing else.
        credentials.bearer?;
        let links = self.0.load_full();
        Some(Box::pin(async move {
            let mut refusal = None;
            for link in &*links {
                match identify(&**link, credentials).await {
                    Ok(Some(user)) => return Ok(Some(user)),
                    Ok(None) => {}
                    Err(status) => refusal = Some(status),
                }
            }
            refusal.map_or(Ok(None), Err)
        }))
    }

    fn ask_review<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Option<BoxFuture<'a, Result<Option<TokenOwner>, String>>> {
        let links = self.0.load_full();
        Some(Box::pin(async move {
            let mut refusals = Vec::new();
            for link in &*links {
                let reviewed = match link.ask_review(token, audiences) {
                    Some(asking) => asking.await,
                    None => link.review_token(token, audiences),
                };
                match reviewed {
                    Ok(Some(owner)) => return Ok(Some(owner)),
                    Ok(None) => {}
                    Err(refusal) => refusals.push(refusal),
                }
            }
            if refusals.is_empty() { Ok(None) } else { Err(aggregate(&refusals)) }
        }))
    }

    /// The next ones may.
    fn asks(&self) -> bool {
        true
    }
}

/// A chain of authorizers.
pub struct ExchangedAuthorizers {
    current: ArcSwap<AuthorizerChain>,
    /// The one with roles and bindings stays the same, whether it is asked or not.
    rbac: Option<Arc<dyn Authorizer>>,
}

impl ExchangedAuthorizers {
    pub fn new(first: AuthorizerChain, rbac: Option<Arc<dyn Authorizer>>) -> Arc<Self> {
        Arc::new(ExchangedAuthorizers { current: ArcSwap::from_pointee(first), rbac })
    }

    pub fn exchange(&self, next: AuthorizerChain) {
        self.current.store(Arc::new(next));
    }
}

impl Authorizer for ExchangedAuthorizers {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        self.current.load().authorize(user, attributes)
    }

    fn decide<'a>(&'a self, user: &'a UserInfo, attributes: &'a Attributes<'a>) -> Option<BoxFuture<'a, Decision>> {
        let current = self.current.load_full();
        Some(Box::pin(async move { decide(&*current, user, attributes).await }))
    }

    fn asks(&self) -> bool {
        true
    }

    fn explain(&self, user: &UserInfo, attributes: &Attributes<'_>) -> (Decision, String) {
        self.current.load().explain(user, attributes)
    }

    fn rbac(&self) -> Option<&Resolver> {
        self.rbac.as_ref()?.rbac()
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        self.current.load().rules_for(user, namespace)
    }
}

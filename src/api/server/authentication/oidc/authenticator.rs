//! The authenticator of one issuer.

use std::sync::Arc;

use futures::future::BoxFuture;
use troupe_api::{
    auth::{Authenticator, Credentials, TokenOwner, tls},
    meta::Clock,
    service::UserInfo,
    status::Status,
};

use super::{keys::ALGORITHMS, mapping::UserMapping, provider::Provider, token::Token};
use crate::authentication::config::Jwt;

/// Lets in whom one issuer vouches for.
pub struct JwtAuthenticator {
    provider: Arc<Provider>,
    mapping: UserMapping,
    audiences: Vec<String>,
    algorithms: Vec<String>,
    /// The API server's own audiences: what such tokens are for counts as these.
    own_audiences: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl JwtAuthenticator {
    /// Takes tokens signed by `algorithms`, all that there are where it is empty.
    ///
    /// # Errors
    /// When an algorithm is unknown, or whom the issuer's certificate is to be believed from.
    pub fn new(jwt: &Jwt, algorithms: &[String], own_audiences: Vec<String>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        if let Some(odd) = algorithms.iter().find(|algorithm| !ALGORITHMS.contains(&algorithm.as_str())) {
            return Err(format!("oidc: unsupported signing alg: {odd:?}"));
        }
        let tls = match jwt.issuer.certificate_authority.as_str() {
            "" => tls::system_client_config(),
            pem => tls::client_config(pem, None),
        };
        let tls = Arc::new(tls.map_err(|error| format!("oidc: the CA contents cannot be used: {error}"))?);
        let all = || ALGORITHMS.iter().map(|algorithm| (*algorithm).to_owned()).collect();
        Ok(JwtAuthenticator {
            provider: Arc::new(Provider::new(&jwt.issuer, tls)),
            mapping: UserMapping::new(jwt)?,
            audiences: jwt.issuer.audiences.clone(),
            algorithms: if algorithms.is_empty() { all() } else { algorithms.to_vec() },
            own_audiences,
            clock,
        })
    }

    /// A token that says to be of this issuer.
    fn of_issuer<'a>(&self, text: &'a str) -> Option<Token<'a>> {
        // What its header says must be understood, nobody here does (RFC 7515, section 4.1.11).
        Token::of(text).filter(|token| token.issuer() == self.provider.url() && token.header.crit.is_none())
    }

    /// The user of a token, by the keys that are known.
    fn judge(&self, token: &Token<'_>) -> Result<UserInfo, String> {
        let unverified = |why: &str| format!("oidc: verify token: {why}");
        self.is_signed(token)
            .ok_or("oidc: authenticator not initialized")?
            .then_some(())
            .ok_or_else(|| unverified("failed to verify signature: failed to verify id token signature"))?;
        token.check(&self.audiences, self.clock.now().as_millisecond() as f64 / 1e3).map_err(|why| unverified(&why))?;
        self.mapping.user(&token.claims)
    }

    fn is_signed(&self, token: &Token<'_>) -> Option<bool> {
        let algorithm = &token.header.alg;
        if !self.algorithms.contains(algorithm) {
            return Some(false);
        }
        self.provider.verifies(&token.header.kid, algorithm, token.message, &token.signature)
    }

    async fn ask_issuer(&self, text: &str) -> Result<Option<UserInfo>, String> {
        let Some(token) = self.of_issuer(text) else { return Ok(None) };
        match self.is_signed(&token) {
            // Keys that are known go on being used, and nobody waits for an issuer that may not answer.
            Some(true) if !self.provider.is_fresh() => self.provider.refresh_aside(),
            Some(true) => {}
            _ if !self.algorithms.contains(&token.header.alg) => {}
            _ => {
                if let (Err(why), None) = (self.provider.refresh().await, self.is_signed(&token)) {
                    return Err(format!("oidc: authenticator not initialized: {why}"));
                }
            }
        }
        self.judge(&token).map(Some)
    }

    /// The issuer, as it is asked.
    #[cfg(test)]
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    fn owner(&self, user: UserInfo, audiences: &[String]) -> Option<TokenOwner> {
        let matching: Vec<String> = match audiences.is_empty() {
            true => self.own_audiences.clone(),
            false => self.own_audiences.iter().filter(|own| audiences.contains(own)).cloned().collect(),
        };
        (!matching.is_empty()).then_some(TokenOwner { user, audiences: matching })
    }
}

fn refused(why: &str) -> Status {
    tracing::debug!(why, "a token of an issuer is not taken");
    Status::unauthorized()
}

impl Authenticator for JwtAuthenticator {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        let Some(token) = credentials.bearer.and_then(|text| self.of_issuer(text)) else { return Ok(None) };
        self.judge(&token).map(Some).map_err(|why| refused(&why))
    }

    fn ask<'a>(&'a self, credentials: &'a Credentials<'a>) -> Option<BoxFuture<'a, Result<Option<UserInfo>, Status>>> {
        let text = credentials.bearer?;
        Some(Box::pin(async move { self.ask_issuer(text).await.map_err(|why| refused(&why)) }))
    }

    fn ask_review<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Option<BoxFuture<'a, Result<Option<TokenOwner>, String>>> {
        Some(Box::pin(async move { Ok(self.ask_issuer(token).await?.and_then(|user| self.owner(user, audiences))) }))
    }

    fn asks(&self) -> bool {
        true
    }
}

//! Tokens that another process signs (KEP-740).

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use super::Verifier;
use crate::{
    auth::{Authenticator, Credentials, TokenOwner},
    service::UserInfo,
    status::Status,
};

/// Who signs tokens in another process, and says which keys they are verified with.
pub trait TokenSigner: Send + Sync + 'static {
    /// The token of these claims; the error says why there is none.
    fn sign(&self, claims: Value) -> BoxFuture<'_, Result<String, String>>;

    /// Asks for its keys, unless it was asked just now.
    fn refresh(&self) -> BoxFuture<'_, ()>;
}

/// A verifier that asks the signer before it refuses a token for a key that it does not know.
pub struct RefreshingVerifier {
    verifier: Verifier,
    signer: Arc<dyn TokenSigner>,
}

impl RefreshingVerifier {
    /// `verifier` looks at the keys that `signer` exchanges.
    pub fn new(verifier: Verifier, signer: Arc<dyn TokenSigner>) -> Self {
        RefreshingVerifier { verifier, signer }
    }
}

impl Authenticator for RefreshingVerifier {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        self.verifier.authenticate(credentials)
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        self.verifier.review_token(token, audiences)
    }

    fn ask<'a>(&'a self, credentials: &'a Credentials<'a>) -> Option<BoxFuture<'a, Result<Option<UserInfo>, Status>>> {
        if !self.verifier.lacks_key_of(credentials.bearer?) {
            return None;
        }
        Some(Box::pin(async move {
            self.signer.refresh().await;
            self.verifier.authenticate(credentials)
        }))
    }

    fn ask_review<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Option<BoxFuture<'a, Result<Option<TokenOwner>, String>>> {
        if !self.verifier.lacks_key_of(token) {
            return None;
        }
        Some(Box::pin(async move {
            self.signer.refresh().await;
            self.verifier.review_token(token, audiences)
        }))
    }

    fn asks(&self) -> bool {
        true
    }
}

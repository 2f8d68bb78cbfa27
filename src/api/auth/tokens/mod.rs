//! Service account tokens: issuing bound ones (TokenRequest), verifying them, and the documents by which others can.
//!
//! A token is a JWT (ES256, ES384 or RS256, as the key is) that names its service account and, where bound, a pod, secret or node, each with its uid.
//! It holds only while those objects exist: the verifier looks at the watch caches on every use, and remembers
//! nothing but that a signature was good.

pub mod claims;
pub mod elsewhere;
pub mod key;
pub mod key_set;
pub mod legacy;
mod metrics;
pub mod public_key;
pub mod request;
pub mod usage;
pub mod verifier;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

pub use claims::{Claims, Kubernetes, Reference};
pub use elsewhere::{RefreshingVerifier, TokenSigner};
pub use key::{KeyError, SigningKey, public_keys};
pub use key_set::{KeySet, TrustedKey};
pub use legacy::LegacyVerifier;
pub use metrics::COLLECTORS;
pub use public_key::PublicKey;
pub use request::{UnsignedToken, shortened, token_request, unsigned_token, work};
pub use usage::TokenUses;
pub use verifier::Verifier;

/// The default issuer, and the audience of tokens for the API server.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Signs tokens.
pub struct Issuer {
    key: SigningKey,
    issuer: String,
    /// The audiences of tokens that ask for none.
    audiences: Vec<String>,
    /// Pod tokens of the usual lifetime live a year, so that programs that never reread them go on working.
    extend: bool,
    /// Seconds that tokens last at most, whatever is asked for.
    longest: Option<i64>,
    /// Names under which tokens were issued before, and keys that other servers sign with: such tokens are taken, too.
    other_names: Vec<String>,
    other_keys: Vec<PublicKey>,
    elsewhere: Option<Elsewhere>,
}

/// Who signs instead of the issuer's own key.
struct Elsewhere {
    signer: Arc<dyn TokenSigner>,
    keys: KeySet,
    /// Seconds that a token of it lasts at most.
    longest: i64,
}

impl Issuer {
    /// An issuer of tokens for [`ISSUER`].
    pub fn new(key: SigningKey) -> Self {
        Issuer::named(key, ISSUER, vec![ISSUER.into()])
    }

    /// An issuer under another name; its tokens are for `audiences` unless they ask for others.
    pub fn named(key: SigningKey, issuer: impl Into<String>, audiences: Vec<String>) -> Self {
        let (other_names, other_keys) = (Vec::new(), Vec::new());
        Issuer { key, issuer: issuer.into(), audiences, extend: true, longest: None, other_names, other_keys, elsewhere: None }
    }

    /// Tokens of these names and keys count, too.
    #[must_use]
    pub fn accepting(self, other_names: Vec<String>, other_keys: Vec<PublicKey>) -> Self {
        Issuer { other_names, other_keys, ..self }
    }

    /// Whether pod tokens of the usual lifetime are extended to a year.
    pub fn extending(self, extend: bool) -> Self {
        Issuer { extend, ..self }
    }

    /// The same where no token lasts longer than these seconds, but for those that are extended.
    #[must_use]
    pub fn lasting_at_most(self, longest: Option<i64>) -> Self {
        Issuer { longest, ..self }
    }

    /// The same where `signer` signs requested tokens, of which none lasts longer than `longest` seconds and only those of its `keys` count.
    #[must_use]
    pub fn signed_elsewhere(self, signer: Arc<dyn TokenSigner>, keys: KeySet, longest: i64) -> Self {
        Issuer { elsewhere: Some(Elsewhere { signer, keys, longest }), ..self }
    }

    /// Who signs requested tokens, if not this issuer.
    pub fn signer(&self) -> Option<&Arc<dyn TokenSigner>> {
        self.elsewhere.as_ref().map(|elsewhere| &elsewhere.signer)
    }

    /// The keys whose tokens count.
    pub fn key_set(&self) -> KeySet {
        self.elsewhere.as_ref().map_or_else(|| self.public_keys().into(), |elsewhere| elsewhere.keys.clone())
    }

    pub fn name(&self) -> &str {
        &self.issuer
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub fn public_key(&self) -> &PublicKey {
        self.key.public()
    }

    /// All keys that its tokens may be signed with here, its own first, none of them twice.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        let mut keys = vec![self.public_key().clone()];
        for key in &self.other_keys {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        keys
    }

    /// All names whose tokens count, its own first.
    pub fn names(&self) -> Vec<String> {
        std::iter::once(&self.issuer).chain(&self.other_names).cloned().collect()
    }

    /// The token of these claims, signed with its own key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        self.key.sign(claims)
    }

    /// What a token for `subject` says, with a fresh id.
    fn claims(&self, subject: Kubernetes, audiences: &[String], now: Timestamp, lifetime_seconds: i64) -> Value {
        let now = now.as_second();
        json!(Claims {
            aud: audiences.to_vec(),
            exp: now + lifetime_seconds,
            iat: now,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: now,
            sub: claims::user_name(&subject.namespace, &subject.serviceaccount.name),
            kubernetes: subject,
        })
    }
}

/// The document at `/openid/v1/jwks`.
pub fn jwks(keys: &[PublicKey]) -> Value {
    json!({"keys": keys.iter().map(PublicKey::jwk).collect::<Vec<_>>()})
}

/// The document at `/.well-known/openid-configuration`. `jwks_uri` is where [`jwks`] is served with these keys.
pub fn openid_configuration(issuer: &str, jwks_uri: &str, keys: &[PublicKey]) -> Value {
    let algorithms: BTreeSet<&str> = keys.iter().map(PublicKey::algorithm).collect();
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

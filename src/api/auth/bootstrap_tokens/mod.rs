//! Bootstrap tokens: short-lived secrets by which a machine trusts a cluster and a cluster lets it ask for a certificate.
//!
//! A token is a Secret `kube-system/bootstrap-token-ID`. Shown as a bearer token it makes its holder a member of
//! `system:bootstrappers`; as a key it signs the ConfigMap `kube-public/cluster-info`.

mod authenticator;
mod signature;

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use rand::Rng;
use thiserror::Error;

pub use authenticator::BootstrapTokenAuthenticator;
pub use signature::sign_detached;

use crate::meta::time::parse_time;

/// The type of Secrets that are tokens.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What precedes a token's id in its Secret's name.
pub const NAME_PREFIX: &str = "bootstrap-token-";
/// The namespace of the Secrets.
pub const NAMESPACE: &str = "kube-system";
/// Everybody who shows a token.
pub const GROUP: &str = "system:bootstrappers";
/// The group of tokens for joining nodes, as kubeadm names it.
pub const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// What precedes a token's signature in `cluster-info`.
pub const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A token: its public id and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    pub id: String,
    pub secret: String,
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the bootstrap token does not have the form [a-z0-9]{{6}}.[a-z0-9]{{16}}")]
pub struct NoToken;

impl BootstrapToken {
    /// A new one that nobody guesses.
    pub fn generate() -> Self {
        let mut rng = rand::rng();
        let mut letters = |count: usize| (0..count).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect();
        BootstrapToken { id: letters(ID_LENGTH), secret: letters(SECRET_LENGTH) }
    }

    /// The name of its Secret.
    pub fn secret_name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.id)
    }
}

impl FromStr for BootstrapToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let (id, secret) = text.split_once('.').ok_or(NoToken)?;
        if id.len() != ID_LENGTH || secret.len() != SECRET_LENGTH || !is_plain(id) || !is_plain(secret) {
            return Err(NoToken);
        }
        Ok(BootstrapToken { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

/// Shows the id only: logs are no place for secrets.
impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({})", self.id)
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// A text of a token's Secret; empty where it has none.
pub fn field(secret: &Secret, name: &str) -> String {
    let value = secret.data.as_ref().and_then(|data| data.get(name));
    value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
}

/// When the token ends: `None` never; an unreadable time counts as past.
pub fn expires(secret: &Secret) -> Option<Timestamp> {
    let text = field(secret, "expiration");
    (!text.is_empty()).then(|| parse_time(&text).unwrap_or(Timestamp::MIN))
}

/// Whether the token's time is over.
pub fn has_expired(secret: &Secret, now: Timestamp) -> bool {
    expires(secret).is_some_and(|end| end <= now)
}

/// The token of a Secret that signs: named after its id, complete, marked for signing and not expired.
pub fn signing_token(secret: &Secret, now: Timestamp) -> Option<BootstrapToken> {
    let id = secret.metadata.name.as_deref()?.strip_prefix(NAME_PREFIX)?;
    let token = BootstrapToken { id: field(secret, "token-id"), secret: field(secret, "token-secret") };
    let usable = is_token(secret) && id == token.id && id.len() == ID_LENGTH && is_plain(id) && !token.secret.is_empty();
    (usable && !has_expired(secret, now) && field(secret, "usage-bootstrap-signing") == "true").then_some(token)
}

/// Whether a Secret is of the type of tokens.
pub fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(SECRET_TYPE)
}

/// The groups of whoever shows the token; `None` when one of the extra groups is none for bootstrappers.
pub fn groups(secret: &Secret) -> Option<Vec<String>> {
    let extra = field(secret, "auth-extra-groups");
    let mut groups = BTreeSet::from([GROUP.to_owned()]);
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        let rest = group.strip_prefix("system:bootstrappers:")?;
        let inner = rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b':' || byte == b'-');
        let ends_well = rest.bytes().last().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !inner || !ends_well || rest.len() > 256 {
            return None;
        }
        groups.insert(group.to_owned());
    }
    Some(groups.into_iter().collect())
}

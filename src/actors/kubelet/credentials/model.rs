//! A credential and where it comes from.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use troupe_cri::proto;

/// An object of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Coordinates {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// Whose credential it is. What has no source is the node's: all of its pods may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Secret(Coordinates),
    ServiceAccount(Coordinates),
}

/// What a registry is shown.
#[derive(Clone, PartialEq)]
pub struct Credential {
    pub auth: proto::AuthConfig,
    /// SHA-256 of it in hexadecimal digits: equal ones are the same credential.
    pub hash: String,
    pub source: Option<Source>,
}

impl Credential {
    pub fn new(auth: proto::AuthConfig, source: Option<Source>) -> Self {
        Credential { hash: hash(&auth), auth, source }
    }

    /// Of a user with a password.
    pub fn basic(username: &str, password: &str, source: Option<Source>) -> Self {
        let auth = proto::AuthConfig { username: username.to_owned(), password: password.to_owned(), ..Default::default() };
        Credential::new(auth, source)
    }
}

/// It may end up in logs and in failures of tests, which its secret must not.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.auth.username).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Of the fields that say something, with their names, as upstream hashes them.
fn hash(auth: &proto::AuthConfig) -> String {
    #[derive(Serialize)]
    struct Hashed<'a> {
        #[serde(skip_serializing_if = "str::is_empty")]
        username: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        password: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        identitytoken: &'a str,
    }
    let hashed = Hashed { username: &auth.username, password: &auth.password, identitytoken: &auth.identity_token };
    let text = serde_json::to_vec(&hashed).expect("texts encode");
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_credentials_have_equal_hashes_and_are_not_told() {
        let (one, other) = (Credential::basic("me", "s3cret", None), Credential::basic("me", "another", None));
        assert_eq!(one.hash, Credential::basic("me", "s3cret", Some(Source::Secret(Coordinates::default()))).hash);
        assert_ne!(one.hash, other.hash);
        assert_eq!(one.hash, hex::encode(Sha256::digest(br#"{"username":"me","password":"s3cret"}"#)));
        let told = format!("{one:?}");
        assert!(told.contains("me") && !told.contains("s3cret") && !told.contains(&one.hash), "{told}");
    }
}

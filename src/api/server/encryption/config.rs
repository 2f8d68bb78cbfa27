//! `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`.

use std::fmt;

use serde::{Deserialize, Deserializer};
use troupe_api::{document::Document, expressions::go_duration};

/// Which resources are sealed, and with what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionConfiguration {
    #[serde(default)]
    pub resources: Vec<ResourceConfiguration>,
}

impl Document for EncryptionConfiguration {
    const GROUP: &'static str = "apiserver.config.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1"];
    const KIND: &'static str = "EncryptionConfiguration";
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceConfiguration {
    #[serde(default)]
    pub resources: Vec<String>,
    #[serde(default)]
    pub providers: Vec<ProviderConfiguration>,
}

/// One of these; an empty object says `identity`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfiguration {
    pub aesgcm: Option<Keys>,
    pub aescbc: Option<Keys>,
    pub secretbox: Option<Keys>,
    pub identity: Option<Identity>,
    pub kms: Option<Kms>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    #[serde(default)]
    pub keys: Vec<Key>,
}

/// A key, whose secret is base64.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub secret: String,
}

/// Never the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A service that keeps the keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kms {
    #[serde(rename = "apiVersion", default = "first_version")]
    pub api_version: String,
    #[serde(default)]
    pub name: String,
    pub cachesize: Option<i32>,
    #[serde(default)]
    pub endpoint: String,
    /// In nanoseconds, which may be less than none.
    #[serde(default = "three_seconds", deserialize_with = "duration")]
    pub timeout: i64,
}

/// As upstream: who says nothing means the one that is no longer served.
fn first_version() -> String {
    "v1".to_owned()
}

fn three_seconds() -> i64 {
    3_000_000_000
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match text {
        None => Ok(three_seconds()),
        Some(text) => go_duration(&text).map_err(serde::de::Error::custom),
    }
}

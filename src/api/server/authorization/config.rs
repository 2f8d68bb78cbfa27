//! `AuthorizationConfiguration` of `apiserver.config.k8s.io`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer};
use troupe_api::{document::Document, expressions::go_duration};

/// Authorizers in their order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationConfiguration {
    #[serde(default)]
    pub authorizers: Vec<AuthorizerConfiguration>,
}

impl Document for AuthorizationConfiguration {
    const GROUP: &'static str = "apiserver.config.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1", "v1beta1"];
    const KIND: &'static str = "AuthorizationConfiguration";
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizerConfiguration {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub webhook: Option<WebhookConfiguration>,
}

/// A webhook; durations are in nanoseconds and may be missing or odd.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct WebhookConfiguration {
    #[serde(rename = "authorizedTTL", deserialize_with = "duration")]
    pub authorized_ttl: i64,
    pub cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL", deserialize_with = "duration")]
    pub unauthorized_ttl: i64,
    pub cache_unauthorized_requests: Option<bool>,
    #[serde(deserialize_with = "duration")]
    pub timeout: i64,
    pub subject_access_review_version: String,
    pub match_condition_subject_access_review_version: String,
    pub failure_policy: String,
    pub connection_info: ConnectionInfo,
    pub match_conditions: Vec<MatchCondition>,
}

impl Default for WebhookConfiguration {
    fn default() -> Self {
        WebhookConfiguration {
            // As upstream: five minutes and thirty seconds.
            authorized_ttl: 300_000_000_000,
            cache_authorized_requests: None,
            unauthorized_ttl: 30_000_000_000,
            cache_unauthorized_requests: None,
            timeout: 0,
            subject_access_review_version: String::new(),
            match_condition_subject_access_review_version: String::new(),
            failure_policy: String::new(),
            connection_info: ConnectionInfo::default(),
            match_conditions: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ConnectionInfo {
    #[serde(rename = "type")]
    pub kind: String,
    pub kube_config_file: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatchCondition {
    pub expression: String,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    go_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// One authorizer.
#[derive(Clone, Debug)]
pub enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    /// The policies of a file.
    Abac(PathBuf),
    Node,
    Rbac,
    Webhook(Box<Webhook>),
}

/// A webhook, checked.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub name: String,
    pub kubeconfig: PathBuf,
    pub timeout: Duration,
    /// None where it is not to be remembered.
    pub authorized_for: Option<Duration>,
    pub unauthorized_for: Option<Duration>,
    pub version: String,
    /// Where it does not answer, requests are denied; else others are asked.
    pub denies_on_failure: bool,
    pub conditions: Vec<String>,
}

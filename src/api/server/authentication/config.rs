//! `AuthenticationConfiguration` of `apiserver.config.k8s.io`, and what the `--oidc-…` flags come to.

use serde::Deserialize;
use troupe_api::document::Document;

/// Who is let in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticationConfiguration {
    #[serde(default)]
    pub jwt: Vec<Jwt>,
    pub anonymous: Option<Anonymous>,
}

impl Document for AuthenticationConfiguration {
    const GROUP: &'static str = "apiserver.config.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1", "v1beta1"];
    const KIND: &'static str = "AuthenticationConfiguration";
}

/// Whether requests without credentials are taken, and for which paths.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anonymous {
    #[serde(default)]
    pub enabled: bool,
    /// All paths where there is none.
    #[serde(default)]
    pub conditions: Vec<AnonymousCondition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnonymousCondition {
    #[serde(default)]
    pub path: String,
}

/// One issuer of tokens.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Jwt {
    pub issuer: Issuer,
    pub claim_validation_rules: Vec<ClaimRule>,
    pub claim_mappings: Mappings,
    pub user_validation_rules: Vec<UserRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Issuer {
    pub url: String,
    #[serde(rename = "discoveryURL")]
    pub discovery_url: Option<String>,
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    pub audience_match_policy: String,
    pub egress_selector_type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ClaimRule {
    pub claim: String,
    pub required_value: String,
    pub expression: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mappings {
    pub username: Mapping,
    pub groups: Mapping,
    pub uid: PlainMapping,
    pub extra: Vec<Extra>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    pub claim: String,
    pub prefix: Option<String>,
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlainMapping {
    pub claim: String,
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Extra {
    pub key: String,
    pub value_expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserRule {
    pub expression: String,
    pub message: String,
}

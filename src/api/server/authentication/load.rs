//! A configuration as a file has it, or as flags say it, checked.

use std::path::{Path, PathBuf};

use troupe_api::{
    document::{self, FileError},
    status::aggregate,
};

use super::{
    config::{AuthenticationConfiguration, ClaimRule, Issuer, Jwt, Mapping, Mappings},
    validation,
};

/// What the flags say of one issuer.
#[derive(Clone, Debug, Default)]
pub struct OidcFlags {
    pub issuer_url: String,
    pub client_id: String,
    pub username_claim: Option<String>,
    pub username_prefix: Option<String>,
    pub groups_claim: Option<String>,
    pub groups_prefix: Option<String>,
    /// `claim=value`.
    pub required_claims: Vec<String>,
    pub ca_file: Option<PathBuf>,
}

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Invalid(String),
}

impl AuthenticationConfiguration {
    /// Reads the text of a file. `own` are the issuers of this server's own tokens, which nobody else may be.
    ///
    /// # Errors
    /// When it says what cannot work.
    pub fn parse(path: &Path, text: &str, own: &[String]) -> Result<Self, AuthenticationConfigError> {
        document::parse::<AuthenticationConfiguration>(path, text)?.checked(own)
    }

    /// The same of flags.
    ///
    /// # Errors
    /// When they say what cannot work.
    pub fn from_flags(flags: OidcFlags, own: &[String]) -> Result<Self, AuthenticationConfigError> {
        let claim = flags.username_claim.unwrap_or_else(|| "sub".into());
        let prefix = match flags.username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) if !prefix.is_empty() => prefix.to_owned(),
            _ if claim == "email" => String::new(),
            _ => format!("{}#", flags.issuer_url),
        };
        let groups = flags.groups_claim.map(|claim| Mapping { claim, prefix: Some(flags.groups_prefix.unwrap_or_default()), ..Mapping::default() });
        let certificate_authority = match flags.ca_file {
            Some(file) => std::fs::read_to_string(&file).map_err(|error| FileError::Read(file, error))?,
            None => String::new(),
        };
        let rule = |text: &String| match text.split_once('=') {
            Some((claim, value)) => Ok(ClaimRule { claim: claim.to_owned(), required_value: value.to_owned(), ..ClaimRule::default() }),
            None => Err(AuthenticationConfigError::Invalid(format!("malformed pair, expect string=string: --oidc-required-claim {text}"))),
        };
        let jwt = Jwt {
            issuer: Issuer { url: flags.issuer_url, audiences: vec![flags.client_id], certificate_authority, ..Issuer::default() },
            claim_validation_rules: flags.required_claims.iter().map(rule).collect::<Result<_, _>>()?,
            claim_mappings: Mappings {
                username: Mapping { claim, prefix: Some(prefix), ..Mapping::default() },
                groups: groups.unwrap_or_default(),
                ..Mappings::default()
            },
            ..Jwt::default()
        };
        AuthenticationConfiguration { jwt: vec![jwt], anonymous: None }.checked(own)
    }

    pub(super) fn checked(self, own: &[String]) -> Result<Self, AuthenticationConfigError> {
        let errors = validation::faults(&self, own);
        if errors.is_empty() {
            return Ok(self);
        }
        Err(AuthenticationConfigError::Invalid(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>())))
    }
}

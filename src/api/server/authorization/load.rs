//! A configuration as a file has it, checked.

use std::{path::Path, time::Duration};

use troupe_api::{
    document::{self, FileError},
    status::aggregate,
};

use super::{
    config::{AuthorizationConfiguration, AuthorizerConfiguration, Mode, Webhook},
    validation,
};

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizationConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Invalid(String),
}

impl AuthorizationConfiguration {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// When it says what cannot work.
    pub fn parse(path: &Path, text: &str) -> Result<Vec<Mode>, AuthorizationConfigError> {
        document::parse::<AuthorizationConfiguration>(path, text)?.modes()
    }

    pub(super) fn modes(self) -> Result<Vec<Mode>, AuthorizationConfigError> {
        let errors = validation::faults(&self);
        if !errors.is_empty() {
            return Err(AuthorizationConfigError::Invalid(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>())));
        }
        Ok(self.authorizers.into_iter().filter_map(mode).collect())
    }
}

fn mode(authorizer: AuthorizerConfiguration) -> Option<Mode> {
    Some(match authorizer.kind.as_str() {
        "AlwaysAllow" => Mode::AlwaysAllow,
        "AlwaysDeny" => Mode::AlwaysDeny,
        "Node" => Mode::Node,
        "RBAC" => Mode::Rbac,
        _ => {
            let webhook = authorizer.webhook?;
            let span = |nanos: i64| Duration::from_nanos(nanos.unsigned_abs());
            let kept = |cached: Option<bool>, nanos: i64| cached.unwrap_or(true).then(|| span(nanos));
            Mode::Webhook(Box::new(Webhook {
                name: authorizer.name,
                kubeconfig: webhook.connection_info.kube_config_file.unwrap_or_default().into(),
                timeout: span(webhook.timeout),
                authorized_for: kept(webhook.cache_authorized_requests, webhook.authorized_ttl),
                unauthorized_for: kept(webhook.cache_unauthorized_requests, webhook.unauthorized_ttl),
                version: webhook.subject_access_review_version,
                denies_on_failure: webhook.failure_policy == "Deny",
                conditions: webhook.match_conditions.into_iter().map(|condition| condition.expression).collect(),
            }))
        }
    })
}

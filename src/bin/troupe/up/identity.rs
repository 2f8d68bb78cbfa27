//! Who calls and may they: puts the authenticators and authorizers together.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Error, Result};
use troupe_actors::apiserver::{ApiServer, ApiServerOptions, AuthResources, VirtualResources};
use troupe_api::{
    auth::{
        Authenticator, Authorizer, bootstrap,
        bootstrap_tokens::BootstrapTokenAuthenticator,
        chain::{AuthenticatorChain, AuthorizerChain, PrivilegedGroups},
        node::NodeAuthorizer,
        rbac::Rbac,
        tokens::{Issuer, LegacyVerifier, SigningKey, Verifier},
        x509::X509Authenticator,
    },
    authentication::{Anonymous, AuthenticationConfiguration, JwtAuthenticator, OidcFlags, TokenWebhook},
    authorization::{Always, AuthorizationConfiguration, Mode, WebhookAuthorizer},
    features::{FeatureGates, STORAGE_VERSION_MIGRATOR},
    meta::{Object, SystemClock},
    service::{Listers, UserInfo},
    webhook_client::Endpoint,
};

use super::control_plane::Certificates;
use crate::config::{ApiSettings, Config};

/// The issuer of service-account tokens.
pub fn issuer(certificates: &Certificates) -> Result<Arc<Issuer>> {
    let key = SigningKey::from_pem(&certificates.service_account_key).context("the key that signs tokens is unusable")?;
    Ok(Arc::new(Issuer::new(key)))
}

/// Whom this server lets in and asks beside what lies in the cluster: issuers, webhooks, the order of authorizers.
#[derive(Clone, Default)]
pub struct Outside {
    authenticators: Vec<Arc<dyn Authenticator>>,
    anonymous: Option<Anonymous>,
    /// Those that are configured; nodes and RBAC where nothing is.
    authorizers: Option<Vec<Link>>,
}

/// An authorizer; those of the cluster are made once its caches are there.
#[derive(Clone)]
enum Link {
    Node,
    Rbac,
    Fixed(Arc<dyn Authorizer>),
}

impl Outside {
    /// What the configuration names. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a file is unusable, or says what cannot work.
    pub fn read(config: &Config, issuer: &Issuer) -> Result<Self> {
        let api = &config.api;
        let own = vec![issuer.name().to_owned()];
        let structured = match (&api.authentication_config, oidc_flags(api)) {
            (Some(file), _) => Some(
                AuthenticationConfiguration::from_file(file, &own)
                    .with_context(|| format!("failed to load authentication configuration from file {}", file.display()))?,
            ),
            (None, Some(flags)) => Some(AuthenticationConfiguration::from_flags(flags, &own).context("the --oidc flags are unusable")?),
            (None, None) => None,
        }
        .unwrap_or_default();
        let algorithms = match (&api.authentication_config, &api.oidc_signing_algs) {
            (Some(_), _) => Vec::new(),
            (None, given) => given.clone().unwrap_or_else(|| vec!["RS256".into()]),
        };
        let mut authenticators: Vec<Arc<dyn Authenticator>> = Vec::new();
        for jwt in &structured.jwt {
            let authenticator = JwtAuthenticator::new(jwt, &algorithms, issuer.audiences().to_vec(), Arc::new(SystemClock));
            authenticators.push(Arc::new(authenticator.map_err(Error::msg)?));
        }
        if let Some(file) = &api.authentication_token_webhook_config_file {
            let endpoint = Endpoint::of_kubeconfig(file).with_context(|| format!("--authentication-token-webhook-config-file {}", file.display()))?;
            let lasts = Duration::from_secs(api.authentication_token_webhook_cache_ttl.unwrap_or(120));
            authenticators.push(Arc::new(TokenWebhook::new(endpoint, issuer.audiences().to_vec(), lasts)));
        }
        let authorizers = api.authorization_config.as_deref().map(authorizers).transpose()?;
        Ok(Outside { authenticators, anonymous: structured.anonymous, authorizers })
    }

    /// Whether requests without credentials are taken, and the only paths for which.
    pub fn anonymous(&self) -> (bool, Option<Vec<String>>) {
        let Some(anonymous) = &self.anonymous else { return (true, None) };
        let paths: Vec<String> = anonymous.conditions.iter().map(|condition| condition.path.clone()).collect();
        (anonymous.enabled, Some(paths).filter(|paths| !paths.is_empty()))
    }
}

fn oidc_flags(api: &ApiSettings) -> Option<OidcFlags> {
    Some(OidcFlags {
        issuer_url: api.oidc_issuer_url.clone()?,
        client_id: api.oidc_client_id.clone().unwrap_or_default(),
        username_claim: api.oidc_username_claim.clone(),
        username_prefix: api.oidc_username_prefix.clone(),
        groups_claim: api.oidc_groups_claim.clone(),
        groups_prefix: api.oidc_groups_prefix.clone(),
        required_claims: api.oidc_required_claim.clone().unwrap_or_default(),
        ca_file: api.oidc_ca_file.clone(),
    })
}

fn authorizers(file: &Path) -> Result<Vec<Link>> {
    let unusable = || format!("failed to load authorization configuration from file {}", file.display());
    let link = |mode| {
        Ok(match mode {
            Mode::Node => Link::Node,
            Mode::Rbac => Link::Rbac,
            Mode::AlwaysAllow => Link::Fixed(Arc::new(Always::Allow)),
            Mode::AlwaysDeny => Link::Fixed(Arc::new(Always::Deny)),
            Mode::Webhook(webhook) => Link::Fixed(WebhookAuthorizer::new(*webhook).map_err(Error::msg).with_context(unusable)?),
        })
    };
    AuthorizationConfiguration::from_file(file).with_context(unusable)?.into_iter().map(link).collect()
}

/// Gives the API server its authorizer and the answers to reviews and token requests.
pub fn configure(options: &mut ApiServerOptions, issuer: Arc<Issuer>, outside: Arc<Outside>) {
    let links = outside.authorizers.clone();
    options.authorizer = Some(Box::new(move |listers| authorizer(listers, links)));
    options.virtual_resources = Some(Box::new(move |listers| {
        let authenticator = authenticator(&issuer, &outside, listers);
        let answers: Arc<dyn VirtualResources> = Arc::new(AuthResources { issuer, authenticator, clock: Arc::new(SystemClock) });
        vec![answers]
    }));
}

/// Upstream's RBAC objects for the features that are on, and those that let nodes join and do their work.
pub fn objects(features: &FeatureGates) -> Vec<Object> {
    let optional = if features.is_on(STORAGE_VERSION_MIGRATOR) { bootstrap::storage_migration() } else { Vec::new() };
    bootstrap::objects().into_iter().chain(optional).collect()
}

/// Client certificates, then service-account tokens, bootstrap tokens, those of issuers and of a webhook; requests with none are anonymous.
pub fn authenticator(issuer: &Issuer, outside: &Outside, listers: Arc<dyn Listers>) -> Arc<dyn Authenticator> {
    let keys = vec![issuer.public_key().clone()];
    let audiences = issuer.audiences().to_vec();
    let legacy = LegacyVerifier::new(keys.clone(), audiences.clone(), listers.clone());
    let verifier = Verifier::new(keys, vec![issuer.name().to_owned()], audiences.clone(), listers.clone(), Arc::new(SystemClock));
    let bootstrap = BootstrapTokenAuthenticator::new(listers, Arc::new(SystemClock), audiences);
    let mut links: Vec<Arc<dyn Authenticator>> = vec![Arc::new(X509Authenticator), Arc::new(legacy), Arc::new(verifier), Arc::new(bootstrap)];
    links.extend(outside.authenticators.iter().cloned());
    Arc::new(AuthenticatorChain::new(links, outside.anonymous().0))
}

/// `system:masters` may do everything; then those that are configured, or nodes what their pods need and RBAC what others may.
fn authorizer(listers: Arc<dyn Listers>, links: Option<Vec<Link>>) -> Arc<dyn Authorizer> {
    let made = links.unwrap_or_else(|| vec![Link::Node, Link::Rbac]).into_iter().map(|link| -> Arc<dyn Authorizer> {
        match link {
            Link::Node => Arc::new(NodeAuthorizer::new(listers.clone())),
            Link::Rbac => Arc::new(Rbac::new(listers.clone())),
            Link::Fixed(authorizer) => authorizer,
        }
    });
    Arc::new(AuthorizerChain::new(std::iter::once(Arc::new(PrivilegedGroups) as Arc<dyn Authorizer>).chain(made).collect()))
}

/// The authorizer of a running API server. All doors share it: its graph of nodes and pods exists once.
pub fn authorizer_of(api: &ApiServer) -> Arc<dyn Authorizer> {
    api.authorizer().expect("the API server was configured with one")
}

/// A component's own user, such as `system:kube-scheduler`, with further groups.
pub fn component(name: &str, groups: &[&str]) -> Arc<UserInfo> {
    let groups = groups.iter().chain(&["system:authenticated"]).map(|group| (*group).to_owned()).collect();
    Arc::new(UserInfo { name: name.to_owned(), groups, ..UserInfo::default() })
}

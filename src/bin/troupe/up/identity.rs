//! Who calls and may they: puts the authenticators and authorizers together.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Error, Result, bail};
use troupe_actors::{
    apiserver::{ApiServer, ApiServerOptions, AuthResources, VirtualResources},
    controllers::legacy_tokens::NotedUses,
};
use troupe_api::{
    auth::{
        Authenticator, Authorizer,
        bootstrap::{self, Addition},
        bootstrap_tokens::BootstrapTokenAuthenticator,
        chain::AuthenticatorChain,
        exchange::ExchangedAuthenticators,
        pki::SERVICE_ACCOUNT_KEY,
        token_file::TokenFile,
        tokens::{ISSUER, Issuer, LegacyVerifier, PublicKey, RefreshingVerifier, SigningKey, Verifier, public_keys},
        x509::{X509Authenticator, X509WithoutUid},
    },
    features::{
        CLUSTER_TRUST_BUNDLE, COORDINATED_LEADER_ELECTION, DEVICE_TAINT_RULES, FeatureGates, GENERIC_WORKLOAD, POD_CERTIFICATE_REQUEST,
        RESOURCE_POOL_STATUS, STORAGE_VERSION_MIGRATOR, UID_FROM_CERTIFICATE, WORKLOAD_WITH_JOB,
    },
    meta::{Object, SystemClock},
    service::{Listers, UserInfo},
};
use troupe_api_server::{
    authentication::{self, Anonymous, AuthenticationConfiguration, JwtAuthenticator, OidcFlags, TokenWebhook},
    authorization::AuthorizationFlags,
    reloading::{FollowedFile, LOOK_EVERY},
    token_signer::{Connected, ExternalSigner, GrpcSigner},
    webhook_client::Endpoint,
};

use super::{
    authorizers::Authorizers,
    control_plane::{self, Certificates},
};
use crate::config::{ApiSettings, Config};

/// The issuer of service-account tokens.
///
/// # Errors
/// When a key cannot be read, or another process is to sign and does not say how.
pub async fn issuer(api: &ApiSettings, certificates: &Certificates) -> Result<Arc<Issuer>> {
    let (named, others) = keys(api)?;
    let key = match named {
        Some(key) => key,
        None => SigningKey::from_pem(&certificates.service_account_key).context("the key that signs tokens is unusable")?,
    };
    let (mut names, audiences) = names(api);
    let other_names = names.split_off(1);
    let issuer = Issuer::named(key, names.remove(0), audiences).extending(api.service_account_extend_token_expiration.unwrap_or(true));
    let longest = api.service_account_max_token_expiration.and_then(|seconds| i64::try_from(seconds).ok());
    let issuer = issuer.lasting_at_most(longest).accepting(other_names, others);
    let Some(endpoint) = &api.service_account_signing_endpoint else { return Ok(Arc::new(issuer)) };
    signed_elsewhere(issuer, endpoint, longest).await.map(Arc::new).context("while setting up external-jwt-signer")
}

/// Who signs tokens for secrets, where the key is on this machine, and no other process signs them.
///
/// # Errors
/// When the key cannot be read.
pub fn issuer_on_this_machine(config: &Config) -> Result<Option<Arc<Issuer>>> {
    if config.api.service_account_signing_endpoint.is_some() {
        return Ok(None);
    }
    let (named, _) = keys(&config.api)?;
    let usual = config.certificates_dir.join(SERVICE_ACCOUNT_KEY);
    let key = match named {
        Some(key) => key,
        None if !usual.exists() => return Ok(None),
        None => {
            let key = fs::read_to_string(&usual).with_context(|| format!("cannot read {}", usual.display()))?;
            SigningKey::from_pem(&key).with_context(|| format!("{} cannot sign tokens", usual.display()))?
        }
    };
    Ok(Some(Arc::new(Issuer::named(key, ISSUER, Vec::new()))))
}

/// The issuer whose tokens the process at a socket signs.
async fn signed_elsewhere(issuer: Issuer, endpoint: &str, longest: Option<i64>) -> Result<Issuer> {
    let service = Arc::new(GrpcSigner::new(endpoint));
    let Connected { signer, longest: most, again } = ExternalSigner::connect(service, Arc::new(SystemClock)).await.map_err(Error::msg)?;
    if let Some(longest) = longest.filter(|longest| *longest > most) {
        bail!(
            "service-account-max-token-expiration cannot be set longer than the token expiration supported by service-account-signing-endpoint: {longest}s > {most}s"
        );
    }
    // It ends with the process.
    tokio::spawn(signer.clone().follow(again));
    let keys = signer.keys();
    Ok(issuer.signed_elsewhere(signer, keys, most).lasting_at_most(Some(longest.unwrap_or(most))))
}

/// The names under which tokens of service accounts count, that of new ones first, and whom tokens for this server are for.
fn names(api: &ApiSettings) -> (Vec<String>, Vec<String>) {
    let given = api.service_account_issuer.clone().filter(|names| !names.is_empty());
    let names = given.unwrap_or_else(|| vec![ISSUER.to_owned()]);
    let audiences = api.api_audiences.clone().filter(|audiences| !audiences.is_empty()).unwrap_or_else(|| names.clone());
    (names, audiences)
}

/// The key that signs tokens where one is named, and those beside it whose tokens count.
///
/// # Errors
/// When a file has none.
pub fn keys(api: &ApiSettings) -> Result<(Option<SigningKey>, Vec<PublicKey>)> {
    let read = |flag: &str, file: &Path| fs::read_to_string(file).with_context(|| format!("{flag} {} is not readable", file.display()));
    let mut others = Vec::new();
    for file in api.service_account_key_file.iter().flatten() {
        let flag = "--service-account-key-file";
        others.extend(public_keys(&read(flag, file)?).with_context(|| format!("{flag} {}", file.display()))?);
    }
    let Some(file) = &api.service_account_signing_key_file else { return Ok((None, others)) };
    let flag = "--service-account-signing-key-file";
    let key = SigningKey::from_pem(&read(flag, file)?).with_context(|| format!("{flag} {}", file.display()))?;
    Ok((Some(key), others))
}

/// Whom this server lets in and asks beside what lies in the cluster: issuers, webhooks, the order of authorizers.
#[derive(Default)]
pub struct Outside {
    authenticators: Vec<Arc<dyn Authenticator>>,
    anonymous: Option<Anonymous>,
    /// Nobody is let in without credentials, whatever else is said.
    without_anonymous: bool,
    authorizers: Authorizers,
    token_uses: Arc<NotedUses>,
    /// Uids that certificates tell are not believed.
    without_uids: bool,
}

impl Outside {
    /// What the configuration names. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a file is unusable, or says what cannot work.
    pub fn read(config: &Config) -> Result<Self> {
        let api = &config.api;
        let (own, audiences) = names(api);
        let audiences = audiences.as_slice();
        let mut outside = Outside::default();
        let features = control_plane::features(config)?;
        outside.without_uids = !features.is_on(UID_FROM_CERTIFICATE);
        if let Some(file) = &api.token_auth_file {
            let tokens = TokenFile::open(file, audiences.to_vec()).with_context(|| format!("--token-auth-file {}", file.display()))?;
            outside.authenticators.push(Arc::new(tokens));
        }
        match (&api.authentication_config, oidc_flags(api)) {
            (Some(file), _) => outside
                .follow(file, own, audiences)
                .with_context(|| format!("failed to load authentication configuration from file {}", file.display()))?,
            (None, Some(flags)) => {
                let structured = AuthenticationConfiguration::from_flags(flags, &own).context("the --oidc flags are unusable")?;
                let algorithms = api.oidc_signing_algs.clone().unwrap_or_else(|| vec!["RS256".into()]);
                outside.authenticators.extend(of_issuers(&structured, &algorithms, audiences).map_err(Error::msg)?);
            }
            (None, None) => {}
        }
        if let Some(file) = &api.authentication_token_webhook_config_file {
            let endpoint = Endpoint::of_kubeconfig(file).with_context(|| format!("--authentication-token-webhook-config-file {}", file.display()))?;
            let lasts = Duration::from_secs(api.authentication_token_webhook_cache_ttl.unwrap_or(120));
            outside.authenticators.push(Arc::new(TokenWebhook::new(endpoint, audiences.to_vec(), lasts)));
        }
        if let Some(file) = &api.authorization_config {
            outside.authorizers = Authorizers::of_file(file)?;
        }
        if let Some(flags) = authorization_flags(api) {
            // Who is nobody would else do everything.
            if flags.modes.iter().any(|mode| mode == "AlwaysAllow") {
                tracing::warn!("AnonymousAuth is not allowed with the AlwaysAllow authorizer. Resetting AnonymousAuth to false");
                outside.without_anonymous = true;
            }
            outside.authorizers = Authorizers::of_flags(flags)?;
        }
        outside.authorizers = outside.authorizers.with(additions(&features));
        if let Some(enabled) = api.anonymous_auth {
            if outside.anonymous.is_some() {
                bail!(
                    "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file"
                );
            }
            outside.anonymous = Some(Anonymous { enabled, conditions: Vec::new() });
        }
        Ok(outside)
    }

    /// Takes the issuers of a file, and those that it names later. Who is anonymous stays as it is.
    fn follow(&mut self, path: &Path, own: Vec<String>, audiences: &[String]) -> Result<()> {
        let file = FollowedFile::open(path)?;
        let first = AuthenticationConfiguration::parse(path, file.text(), &own)?;
        let audiences = audiences.to_vec();
        let exchanged = ExchangedAuthenticators::new(of_issuers(&first, &[], &audiences).map_err(Error::msg)?);
        self.authenticators.push(exchanged.clone());
        self.anonymous.clone_from(&first.anonymous);
        // It ends with the process.
        tokio::spawn(file.follow(LOOK_EVERY, authentication::RELOADS, move |path, text| {
            let next = AuthenticationConfiguration::parse(path, text, &own).map_err(|error| error.to_string())?;
            if next.anonymous != first.anonymous {
                return Err("anonymous: Forbidden: changed from initial configuration file".into());
            }
            exchanged.exchange(of_issuers(&next, &[], &audiences)?);
            Ok(())
        }));
        Ok(())
    }

    /// What client certificates are authenticated by.
    fn certificates(&self) -> Arc<dyn Authenticator> {
        if self.without_uids { Arc::new(X509WithoutUid) } else { Arc::new(X509Authenticator) }
    }

    /// Where uses of tokens out of secrets are told.
    pub fn token_uses(&self) -> Arc<NotedUses> {
        self.token_uses.clone()
    }

    /// Whether requests without credentials are taken, and the only paths for which.
    pub fn anonymous(&self) -> (bool, Option<Vec<String>>) {
        if self.without_anonymous {
            return (false, None);
        }
        let Some(anonymous) = &self.anonymous else { return (true, None) };
        let paths: Vec<String> = anonymous.conditions.iter().map(|condition| condition.path.clone()).collect();
        (anonymous.enabled, Some(paths).filter(|paths| !paths.is_empty()))
    }
}

/// What is said about authorizers by flags, if something is.
fn authorization_flags(api: &ApiSettings) -> Option<AuthorizationFlags> {
    let flags = AuthorizationFlags {
        modes: api.authorization_mode.clone().unwrap_or_default(),
        policy_file: api.authorization_policy_file.clone(),
        webhook_config_file: api.authorization_webhook_config_file.clone(),
        webhook_version: api.authorization_webhook_version.clone(),
        authorized_ttl: api.authorization_webhook_cache_authorized_ttl.map(Duration::from_secs),
        unauthorized_ttl: api.authorization_webhook_cache_unauthorized_ttl.map(Duration::from_secs),
    };
    (flags != AuthorizationFlags::default()).then_some(flags)
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

/// The issuers of a configuration, whose tokens are signed by `algorithms`, or any where there is none.
fn of_issuers(structured: &AuthenticationConfiguration, algorithms: &[String], audiences: &[String]) -> Result<Vec<Arc<dyn Authenticator>>, String> {
    let authenticator = |jwt| -> Result<Arc<dyn Authenticator>, String> {
        Ok(Arc::new(JwtAuthenticator::new(jwt, algorithms, audiences.to_vec(), Arc::new(SystemClock))?))
    };
    structured.jwt.iter().map(authenticator).collect()
}

/// Gives the API server its authorizer and the answers to reviews and token requests.
pub fn configure(options: &mut ApiServerOptions, issuer: Arc<Issuer>, outside: Arc<Outside>) {
    let asked = outside.clone();
    options.authorizer = Some(Box::new(move |listers| asked.authorizers.over(&listers)));
    options.virtual_resources = Some(Box::new(move |listers| {
        let authenticator = authenticator(&issuer, &outside, listers);
        let answers: Arc<dyn VirtualResources> = Arc::new(AuthResources { issuer, authenticator, clock: Arc::new(SystemClock) });
        vec![answers]
    }));
}

/// Upstream's RBAC objects for the features that are on, and those that let nodes join and do their work.
pub fn objects(features: &FeatureGates) -> Vec<Object> {
    bootstrap::objects_with(&additions(features))
}

/// What the features that are on add to the bootstrap policy.
fn additions(features: &FeatureGates) -> Vec<Addition> {
    let optional = [
        (STORAGE_VERSION_MIGRATOR, Addition::StorageMigration),
        (GENERIC_WORKLOAD, Addition::Workloads),
        (WORKLOAD_WITH_JOB, Addition::JobWorkloads),
        (COORDINATED_LEADER_ELECTION, Addition::Candidates),
        (CLUSTER_TRUST_BUNDLE, Addition::TrustBundles),
        (POD_CERTIFICATE_REQUEST, Addition::PodCertificates),
        (DEVICE_TAINT_RULES, Addition::DeviceTaintRules),
        (RESOURCE_POOL_STATUS, Addition::PoolStatus),
    ];
    optional.into_iter().filter(|(feature, _)| features.is_on(feature)).map(|(_, addition)| addition).collect()
}

/// Client certificates, then service-account tokens, bootstrap tokens, those of a file, of issuers and of a webhook; requests with none are
/// anonymous.
pub fn authenticator(issuer: &Issuer, outside: &Outside, listers: Arc<dyn Listers>) -> Arc<dyn Authenticator> {
    let keys = issuer.key_set();
    let audiences = issuer.audiences().to_vec();
    let legacy = LegacyVerifier::new(keys.clone(), audiences.clone(), listers.clone(), Arc::new(SystemClock), outside.token_uses());
    let verifier = Verifier::new(keys, issuer.names(), audiences.clone(), listers.clone(), Arc::new(SystemClock));
    let verifier: Arc<dyn Authenticator> = match issuer.signer() {
        Some(signer) => Arc::new(RefreshingVerifier::new(verifier, signer.clone())),
        None => Arc::new(verifier),
    };
    let bootstrap = BootstrapTokenAuthenticator::new(listers, Arc::new(SystemClock), audiences);
    let mut links: Vec<Arc<dyn Authenticator>> = vec![outside.certificates(), Arc::new(legacy), verifier, Arc::new(bootstrap)];
    links.extend(outside.authenticators.iter().cloned());
    Arc::new(AuthenticatorChain::new(links, outside.anonymous().0))
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

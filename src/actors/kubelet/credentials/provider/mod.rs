//! Credential providers: programs of this node that are asked for the credentials of an image (KEP-2133), and may be shown a token of the
//! pod's service account for that (KEP-4412).
//!
//! [`config`] tells which there are, `program` runs one, `cache` keeps what it answered for as long as it says. Who asks for the same
//! at once waits for the same process. A provider that fails is told in the log and has nothing to give: the image is pulled without.

mod cache;
pub mod config;
pub mod metrics;
mod program;
mod protocol;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared, join_all},
};
use k8s_openapi::api::core::v1::ServiceAccount;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use troupe_api::{Status, meta::Clock};

pub use self::config::{ConfigError, ProviderFiles};
use self::{
    cache::{AccountKey, Cache},
    config::{CacheType, ProviderConfig, TokenAttributes},
    program::Program,
    protocol::{Auths, Response},
};
use super::{
    keyring::Keyring,
    matching::Place,
    model::{Coordinates, Credential, Source},
};

/// How long a process may take.
const LONGEST: Duration = Duration::from_secs(60);

/// The pod's service account as the cluster knows it.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// `None` when it does not exist.
    async fn account(&self) -> Result<Option<Arc<ServiceAccount>>, Status>;
    /// A token of it for an audience, bound to the pod.
    async fn token(&self, audience: &str) -> Result<String, Status>;
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The whole repository, without tag or digest.
    pub image: &'a str,
    pub namespace: &'a str,
    /// The name of the pod's service account; empty for pods that have none, such as those from manifests.
    pub account: &'a str,
    pub accounts: &'a dyn Accounts,
}

/// All providers of a node. [default: none]
#[derive(Debug, Default)]
pub struct Providers(Vec<Provider>);

impl Providers {
    /// Reads which there are.
    ///
    /// # Errors
    /// When the configuration cannot be used, or a program is not there.
    pub fn load(files: &ProviderFiles, clock: &Arc<dyn Clock>) -> Result<Self, ConfigError> {
        let (all, hash) = config::load(files)?;
        metrics::CONFIGURED.with(&[&hash]).set(1.0);
        Ok(Providers(all.into_iter().map(|config| Provider::new(config, files, clock.clone(), LONGEST)).collect()))
    }

    /// All credentials that providers have for an image.
    pub async fn keyring(&self, asked: Asked<'_>) -> Keyring {
        let mut keyring = Keyring::default();
        for (auths, account) in join_all(self.0.iter().map(|provider| provider.credentials(asked))).await {
            let source = account.map(Source::ServiceAccount);
            for (place, auth) in &*auths {
                keyring.add(place, Credential::basic(&auth.username, &auth.password, source.clone()));
            }
        }
        keyring
    }
}

/// Whom a process is asked for: nobody, unless it wants tokens.
#[derive(Clone, Default)]
struct Caller {
    token: String,
    token_hash: String,
    annotations: BTreeMap<String, String>,
    account: Option<Coordinates>,
}

/// Image, hash of the token, annotations.
type CallKey = (String, String, BTreeMap<String, String>);
type Answer = BoxFuture<'static, Result<Arc<Response>, String>>;
type Call = Shared<Answer>;

struct Provider {
    config: ProviderConfig,
    places: Vec<Place>,
    program: Arc<Program>,
    clock: Arc<dyn Clock>,
    cache: Mutex<Cache>,
    /// Processes that run. Nobody's word is waited for once all who asked are gone.
    calls: Mutex<BTreeMap<CallKey, WeakShared<Answer>>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Provider {
    fn new(config: ProviderConfig, files: &ProviderFiles, clock: Arc<dyn Clock>, longest: Duration) -> Self {
        Provider {
            places: config.match_images.iter().filter_map(|place| Place::parse(place).ok()).collect(),
            program: Arc::new(Program::new(&config, &files.bin_dir, longest)),
            config,
            clock,
            cache: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// What it gives, and the service account that it gave it to; nothing where it fails.
    async fn credentials(&self, asked: Asked<'_>) -> (Arc<Auths>, Option<Coordinates>) {
        self.provide(asked).await.unwrap_or_else(|why| {
            let (provider, image, namespace, account) = (&self.config.name, asked.image, asked.namespace, asked.account);
            tracing::error!(why, provider, image, namespace, account, "failed to provide credentials for image");
            Default::default()
        })
    }

    async fn provide(&self, asked: Asked<'_>) -> Result<(Arc<Auths>, Option<Coordinates>), String> {
        let is_allowed = Place::parse(asked.image).is_ok_and(|image| self.places.iter().any(|place| place.has(&image)));
        if !is_allowed {
            return Ok(Default::default());
        }
        let Some(caller) = self.caller(asked).await? else { return Ok(Default::default()) };
        let key = self.account_key(&caller);
        let known = self.cache.lock().get(asked.image, key.as_ref(), self.clock.now());
        if let Some(known) = known {
            return Ok((known, caller.account));
        }
        let response = self.call(asked.image, &caller).await;
        let response = response.map_err(|why| format!("failed to get credential from external registry credential provider: {why}"))?;
        self.check_echo(&response, &caller)?;
        let lasts = response.cache_duration.unwrap_or(self.config.default_cache_duration);
        if !lasts.is_zero() {
            let now = self.clock.now();
            self.cache.lock().put((response.cache_key.of(asked.image), key), response.auth.clone(), now, lasts);
        }
        Ok((response.auth.clone(), caller.account))
    }

    /// Whom to ask the program for; `None` where it is not for this pod.
    async fn caller(&self, asked: Asked<'_>) -> Result<Option<Caller>, String> {
        let Some(attributes) = &self.config.token_attributes else { return Ok(Some(Caller::default())) };
        if asked.account.is_empty() {
            return Ok((!attributes.require_service_account).then(Caller::default));
        }
        let account = asked.accounts.account().await.map_err(|status| status.message);
        let account = account.and_then(|found| found.ok_or_else(|| format!("serviceaccounts {:?} not found", asked.account)));
        let account = account.map_err(|why| format!("failed to get service account: {why}"))?;
        let Some(annotations) = annotations(&account, attributes) else {
            tracing::debug!(provider = self.config.name, account = asked.account, "a required annotation is missing");
            return Ok(None);
        };
        let token = asked.accounts.token(&attributes.audience).await;
        let token = token.map_err(|status| format!("failed to get service account token: {}", status.message))?;
        let uid = account.metadata.uid.clone().unwrap_or_default();
        let account = Coordinates { uid, namespace: asked.namespace.to_owned(), name: asked.account.to_owned() };
        Ok(Some(Caller { token_hash: hex::encode(Sha256::digest(&token)), token, annotations, account: Some(account) }))
    }

    /// For whom the answer is kept; `None` for all.
    fn account_key(&self, caller: &Caller) -> Option<AccountKey> {
        let account = caller.account.clone()?;
        let attributes = self.config.token_attributes.as_ref()?;
        let token_hash = (attributes.cache_type == CacheType::Token).then(|| caller.token_hash.clone());
        Some(AccountKey { account, annotations: caller.annotations.clone(), token_hash })
    }

    /// Asks the program, or waits with others for what it says about the same.
    async fn call(&self, image: &str, caller: &Caller) -> Result<Arc<Response>, String> {
        let key = (image.to_owned(), caller.token_hash.clone(), caller.annotations.clone());
        let call = self.join(key, || {
            let (program, image, caller) = (self.program.clone(), image.to_owned(), caller.clone());
            async move {
                let begun = Instant::now();
                let answer = program.run(&image, &caller.token, &caller.annotations).await;
                metrics::ran(program.name(), begun.elapsed(), matches!(&answer, Err(failure) if failure.is_of_process()));
                answer.map(Arc::new).map_err(|failure| failure.to_string())
            }
            .boxed()
            .shared()
        });
        call.await
    }

    fn join(&self, key: CallKey, begin: impl FnOnce() -> Call) -> Call {
        let mut calls = self.calls.lock();
        calls.retain(|_, call| call.upgrade().is_some());
        if let Some(call) = calls.get(&key).and_then(WeakShared::upgrade) {
            return call;
        }
        let call = begin();
        calls.extend(call.downgrade().map(|call| (key, call)));
        call
    }

    /// A token that is its own credential must not be kept for longer than the token.
    fn check_echo(&self, response: &Response, caller: &Caller) -> Result<(), String> {
        let is_by_token = self.config.token_attributes.as_ref().is_some_and(|attributes| attributes.cache_type == CacheType::Token);
        let is_echo = !caller.token.is_empty() && response.auth.values().any(|auth| auth.password == caller.token);
        if is_echo && !is_by_token {
            return Err("credential provider plugin returned the service account token as the password which is not allowed when service account \
                        cache type is not set to 'Token'"
                .into());
        }
        Ok(())
    }
}

/// Those of the account that the program wants to know; `None` where one that it needs is missing.
fn annotations(account: &ServiceAccount, attributes: &TokenAttributes) -> Option<BTreeMap<String, String>> {
    let known = account.metadata.annotations.as_ref();
    let value = |key: &String| Some((key.clone(), known?.get(key)?.clone()));
    let mut all = attributes.required_annotations.iter().map(value).collect::<Option<BTreeMap<_, _>>>()?;
    all.extend(attributes.optional_annotations.iter().filter_map(value));
    Some(all)
}

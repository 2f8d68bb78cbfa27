//! An issuer's keys: asked for when they are first needed, and again when a token names one that is not known.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::keys::{self, Key};
use crate::{
    authentication::config::Issuer,
    webhook_client::fetch::{self, Url},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Documents longer than this are none.
const LONGEST: usize = 1 << 20;
/// How long keys are used without another look, and how soon they are looked at again where a token asks for it: anybody can send such.
const KEYS_FOR: Duration = Duration::from_secs(3600);
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// An issuer, as it is asked.
pub struct Provider {
    url: String,
    discovery: String,
    tls: Arc<ClientConfig>,
    known: ArcSwapOption<Known>,
    asking: Mutex<Asked>,
    /// Somebody looks at the keys again whom nobody waits for.
    looking: AtomicBool,
}

struct Known {
    keys: Arc<[Key]>,
    /// When they need another look.
    fresh_until: Instant,
}

#[derive(Default)]
struct Asked {
    last: Option<(Instant, Result<(), String>)>,
    keys_at: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Provider {
    pub fn new(issuer: &Issuer, tls: Arc<ClientConfig>) -> Self {
        let usual = || format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        let discovery = issuer.discovery_url.clone().filter(|url| !url.is_empty()).unwrap_or_else(usual);
        let (known, asking, looking) = (ArcSwapOption::empty(), Mutex::default(), AtomicBool::default());
        Provider { url: issuer.url.clone(), discovery, tls, known, asking, looking }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether a known key signed something; nothing where no key is known.
    pub fn verifies(&self, id: &str, algorithm: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
        let known = self.known.load_full()?;
        let mut candidates = known.keys.iter().filter(|key| key.is_named(id));
        Some(candidates.any(|key| key.verifies(algorithm, message, signature)))
    }

    /// Whether keys are known that need no other look because of their age.
    pub fn is_fresh(&self) -> bool {
        self.known.load().as_ref().is_some_and(|known| Instant::now() < known.fresh_until)
    }

    /// Asks for the keys while those that are known go on being used.
    pub fn refresh_aside(self: &Arc<Self>) {
        if self.looking.swap(true, Ordering::Relaxed) {
            return;
        }
        let provider = self.clone();
        tokio::spawn(async move {
            // What went wrong is logged there.
            let _ = provider.refresh().await;
            provider.looking.store(false, Ordering::Relaxed);
        });
    }

    /// Asks for the keys, unless that was done a moment ago.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn refresh(&self) -> Result<(), String> {
        let mut asked = self.asking.lock().await;
        if let Some((at, outcome)) = &asked.last
            && at.elapsed() < LOOK_AGAIN
        {
            return outcome.clone();
        }
        let outcome = self.fetch(&mut asked.keys_at).await;
        if let Err(error) = &outcome {
            tracing::error!(issuer = self.url, error, "cannot get the keys of an issuer");
        }
        asked.last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    async fn fetch(&self, keys_at: &mut Option<String>) -> Result<(), String> {
        let at = match keys_at.clone() {
            Some(at) => at,
            None => self.discover().await?,
        };
        let text = self.get(&at).await.inspect_err(|_| *keys_at = None)?;
        let keys = keys::read(&text)?.into();
        *keys_at = Some(at);
        self.known.store(Some(Arc::new(Known { keys, fresh_until: Instant::now() + KEYS_FOR })));
        Ok(())
    }

    async fn discover(&self) -> Result<String, String> {
        let text = self.get(&self.discovery).await?;
        let found: Discovery = serde_json::from_slice(&text).map_err(|error| format!("oidc: failed to decode provider discovery object: {error}"))?;
        if found.issuer != self.url {
            return Err(format!("oidc: issuer did not match the issuer returned by provider, expected {:?} got {:?}", self.url, found.issuer));
        }
        Ok(found.jwks_uri)
    }

    /// The keys need another look from now on.
    #[cfg(test)]
    pub fn age(&self) {
        let known = self.known.load_full().expect("keys are known");
        self.known.store(Some(Arc::new(Known { keys: known.keys.clone(), fresh_until: Instant::now() })));
    }

    /// As long as this lives, the issuer does not answer.
    #[cfg(test)]
    pub async fn hang(&self) -> impl Sized {
        self.asking.lock().await
    }

    async fn get(&self, url: &str) -> Result<bytes::Bytes, String> {
        let parsed = Url::parse(url)?;
        let got = tokio::time::timeout(PATIENCE, fetch::get(&parsed, &self.tls, LONGEST)).await;
        got.unwrap_or_else(|_| Err("context deadline exceeded".into())).map_err(|why| format!("Get {url:?}: {why}"))
    }
}

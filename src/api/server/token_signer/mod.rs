//! Tokens of service accounts that another process signs (`--service-account-signing-endpoint`, KEP-740).
//!
//! In: claims, and the signer's answers. Out: tokens, and the keys that tokens are verified with, which are asked for as often as the signer
//! says, and when a token names one that is not known. What the signer says is checked as upstream does.

mod keys;
pub mod messages;
mod metrics;
mod service;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use tonic::{Code, Status};
use troupe_api::{
    auth::tokens::{KeySet, TokenSigner},
    meta::Clock,
};
use troupe_unix_grpc::{code_name, words};

use self::{
    keys::Fetched,
    messages::{SignRequest, SignResponse},
};

pub use metrics::COLLECTORS;
pub use service::{GrpcSigner, SignerService};

/// How long the signer may take to come up before a server that needs it gives up.
const COMES_UP: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long it may take to tell about itself.
const TELLS: Duration = Duration::from_secs(10);
/// When it is asked for keys again that it did not tell.
const RETRY: Duration = Duration::from_secs(10);
/// Tokens that name unknown keys have it asked no more often.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Seconds that a signer must let tokens last.
const LEAST_LIFETIME: i64 = 600;
const LONGEST_ID: usize = 1024;
const ALGORITHMS: [&str; 4] = ["RS256", "ES256", "ES384", "ES512"];

/// The code of what worked, and of what failed without the signer's word.
const OK: &str = "OK";
const OWN: &str = "unknown-non-grpc";

/// Why something failed, and its code in metrics.
struct Failure {
    code: String,
    why: String,
}

impl Failure {
    fn of(status: &Status, doing: &str) -> Self {
        Failure { code: code_name(status), why: format!("{doing}: {}", words(status)) }
    }

    fn own(why: String) -> Self {
        Failure { code: OWN.to_owned(), why }
    }
}

/// See the module.
pub struct ExternalSigner {
    service: Arc<dyn SignerService>,
    keys: KeySet,
    clock: Arc<dyn Clock>,
    /// When it was last asked for keys because a token named an unknown one; held meanwhile, so that all who wait have one answer.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// A signer that told its keys and about itself.
pub struct Connected {
    pub signer: Arc<ExternalSigner>,
    /// Seconds that its tokens last at most.
    pub longest: i64,
    /// When its keys are to be asked for again, by [`ExternalSigner::follow`].
    pub again: Duration,
}

/// The first part of a token, of which nothing else is taken.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

impl ExternalSigner {
    /// Waits until the signer tells its keys.
    ///
    /// # Errors
    /// When it does not within a minute, or says what cannot be.
    pub async fn connect(service: Arc<dyn SignerService>, clock: Arc<dyn Clock>) -> Result<Connected, String> {
        let signer = Arc::new(ExternalSigner { service, keys: KeySet::default(), clock, asked: tokio::sync::Mutex::default() });
        let begun = signer.clock.instant();
        let again = loop {
            match signer.sync().await {
                Ok(again) => break again,
                Err(failure) if is_absent(&failure) && signer.clock.instant().saturating_duration_since(begun) < COMES_UP => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(failure) => return Err(format!("while initially filling key cache: {}", failure.why)),
            }
        };
        let metadata = tokio::time::timeout(TELLS, signer.service.metadata()).await;
        let metadata = metadata.unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded")));
        let longest = metadata.map_err(|status| words(&status))?.max_token_expiration_seconds;
        if longest < LEAST_LIFETIME {
            return Err(format!("max token life supported by external-jwt-signer ({longest}s) is less than acceptable (min {LEAST_LIFETIME}s)"));
        }
        Ok(Connected { signer, longest, again })
    }

    /// The keys that its tokens are verified with, as they are now.
    pub fn keys(&self) -> KeySet {
        self.keys.clone()
    }

    /// Asks for keys `after` that time and then as often as it says, for ever. While it does not answer, the keys of before count.
    pub async fn follow(self: Arc<Self>, mut after: Duration) {
        loop {
            tokio::time::sleep(after).await;
            after = match self.sync().await {
                Ok(again) => again,
                Err(Failure { why, .. }) => {
                    tracing::warn!(why, "cannot fetch the keys of the signer of tokens, will retry");
                    RETRY
                }
            };
        }
    }

    /// Fetches the keys; gives when to do so again.
    async fn sync(&self) -> Result<Duration, Failure> {
        let fetched = match self.service.fetch_keys().await {
            Ok(response) => Fetched::read(response).map_err(Failure::own),
            Err(status) => Err(Failure::of(&status, "while getting externally supported jwt signing keys")),
        };
        let now = self.clock.now();
        match fetched {
            Ok(Fetched { keys, as_of, again }) => {
                metrics::fetched(OK, Some(as_of), now);
                self.keys.exchange(keys);
                Ok(again)
            }
            Err(failure) => {
                metrics::fetched(&failure.code, None, now);
                Err(failure)
            }
        }
    }

    async fn signed(&self, claims: &Value) -> Result<String, Failure> {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        let response = self.service.sign(SignRequest { claims: payload.clone() }).await;
        let SignResponse { header, signature } = response.map_err(|status| Failure::of(&status, "while signing jwt"))?;
        self.check_header(&header).await.map_err(|why| Failure::own(format!("while validating header: {why}")))?;
        if signature.is_empty() {
            return Err(Failure::own("empty signature returned".to_owned()));
        }
        Ok(format!("{header}.{payload}.{signature}"))
    }

    /// A header that others can verify a token by.
    async fn check_header(&self, header: &str) -> Result<(), String> {
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).map_err(|error| format!("while unwrapping header: {error}"))?;
        let Header { alg, kid, typ } = serde_json::from_slice(&header).map_err(|error| format!("while parsing header JSON: {error}"))?;
        match () {
            () if typ != "JWT" => return Err("bad type".to_owned()),
            () if kid.is_empty() => return Err("key id missing".to_owned()),
            () if kid.len() > LONGEST_ID => return Err("key id longer than 1 kb".to_owned()),
            () if !ALGORITHMS.contains(&alg.as_str()) => return Err(format!("bad signing algorithm {alg:?}")),
            () => {}
        }
        if !self.keys.has(&kid) {
            self.refresh().await;
        }
        // Tokens of such keys were issued before; nobody else could verify new ones.
        let is_hidden = self.keys.load().iter().any(|trusted| trusted.key.id() == kid && trusted.is_hidden);
        if is_hidden { Err(format!("key used for signing JWT (kid: {kid}) is excluded from OIDC discovery docs")) } else { Ok(()) }
    }
}

/// Whether nobody answers at the socket.
fn is_absent(failure: &Failure) -> bool {
    failure.code == format!("{:?}", Code::Unavailable)
}

impl TokenSigner for ExternalSigner {
    fn sign(&self, claims: Value) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let signed = self.signed(&claims).await;
            metrics::signed(signed.as_ref().err().map_or(OK, |failure| failure.code.as_str()));
            signed.map_err(|failure| failure.why)
        })
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut asked = self.asked.lock().await;
            let now = self.clock.instant();
            if asked.is_some_and(|before| now.saturating_duration_since(before) < AT_MOST_EVERY) {
                return;
            }
            if let Err(Failure { why, .. }) = self.sync().await {
                tracing::warn!(why, "cannot fetch the keys of the signer of tokens");
            }
            *asked = Some(now);
        })
    }
}

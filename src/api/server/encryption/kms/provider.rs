//! One provider: the seed in use, those that were opened before, and whether the service is well.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use prost::Message;
use sha2::{Digest, Sha256};
use troupe_api::status::aggregate;
use uuid::Uuid;

use super::{
    DecryptRequest, EncryptRequest, KmsService, StatusResponse,
    envelope::{DERIVED, DataKey, EncryptedObject},
};
use crate::encryption::ciphers::Opened;

/// How long an answer about its health counts.
const HEALTHY_FOR: Duration = Duration::from_secs(20);
const UNHEALTHY_FOR: Duration = Duration::from_secs(3);
/// How often a healthy service is asked, and one that is not.
const ASK_EVERY: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long a seed seals without a word of the service that it is still right.
const SEALS_FOR: Duration = Duration::from_secs(180);
/// Opened seeds that are remembered, and for how long.
const REMEMBERED: usize = 1000;
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// How soon the service is asked again to open a seed that it did not open. Nobody waits for that: many values have one seed, and all changes
/// of the store come one after the other.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// What is told of the service's own words, in characters.
const LONGEST_WORDS: usize = 1024;

/// A provider of keys. Its service is asked in the background once [`KmsProvider::watch`] was called.
pub struct KmsProvider {
    name: String,
    service: Arc<dyn KmsService>,
    current: ArcSwapOption<Current>,
    opened: Mutex<OpenedSeeds>,
    refused: Mutex<HashMap<[u8; 32], Refusal>>,
    /// Held by whoever has a seed opened: others who want the same wait for the answer.
    opening: tokio::sync::Mutex<()>,
    health: tokio::sync::Mutex<Health>,
    watching: OnceLock<Watching>,
    itself: Weak<KmsProvider>,
}

/// Seeds that were opened, by the hash of their sealed form, and when.
type OpenedSeeds = HashMap<[u8; 32], (Arc<DataKey>, Instant)>;

/// Why a seed was not opened.
struct Refusal {
    why: String,
    /// When the service is asked again at the earliest; none while it is.
    until: Option<Instant>,
}

/// What seals now.
struct Current {
    key: Arc<DataKey>,
    /// Without data.
    envelope: EncryptedObject,
    until: Instant,
}

#[derive(Default)]
struct Health {
    last: Option<(Instant, Result<(), String>)>,
    /// What the service said first; it must not change.
    version: String,
}

/// Ends with the provider.
struct Watching(tokio::task::AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl KmsProvider {
    pub fn new(name: &str, service: Arc<dyn KmsService>) -> Arc<Self> {
        Arc::new_cyclic(|itself| KmsProvider {
            name: name.to_owned(),
            service,
            current: ArcSwapOption::empty(),
            opened: Mutex::default(),
            refused: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            health: tokio::sync::Mutex::default(),
            watching: OnceLock::new(),
            itself: itself.clone(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Goes on asking the service.
    pub fn watch(&self) {
        let itself = self.itself.clone();
        self.watching.get_or_init(|| {
            let task = tokio::spawn(async move {
                let mut pause = ASK_EVERY;
                loop {
                    tokio::time::sleep(pause).await;
                    let Some(provider) = itself.upgrade() else { return };
                    pause = match provider.check().await {
                        Ok(()) => ASK_EVERY,
                        Err(error) => {
                            tracing::warn!(provider = provider.name, error, "a provider of keys is not healthy");
                            ASK_AGAIN
                        }
                    };
                }
            });
            Watching(task.abort_handle())
        });
    }

    /// Whether the service is well and has a key. Where that is another than before, what is sealed next is sealed with it.
    ///
    /// # Errors
    /// What is not well.
    pub async fn check(&self) -> Result<(), String> {
        let mut health = self.health.lock().await;
        if let Some((asked, outcome)) = &health.last {
            let counts = if outcome.is_ok() { HEALTHY_FOR } else { UNHEALTHY_FOR };
            if asked.elapsed() < counts {
                return outcome.clone();
            }
        }
        let outcome = match self.service.status().await {
            Ok(status) => self.judge(&status, &mut health.version).await,
            Err(error) => Err(format!("failed to perform status section of the healthz check for KMS Provider {}, error: {error}", self.name)),
        };
        health.last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    async fn judge(&self, status: &StatusResponse, known: &mut String) -> Result<(), String> {
        let mut faults = Vec::new();
        if status.healthz != "ok" {
            faults.push(format!("got unexpected healthz status: {}", shortened(&status.healthz)));
        }
        if status.version != "v2" && status.version != "v2beta1" {
            faults.push(format!("expected KMSv2 API version v2, got {}", shortened(&status.version)));
        } else if known.is_empty() {
            known.clone_from(&status.version);
        } else if *known != status.version {
            faults.push(format!(
                "KMSv2 API version should not change after the initial status response version {known}, got {}",
                shortened(&status.version)
            ));
        }
        if status.key_id.is_empty() || status.key_id.len() > 1024 {
            faults.push(format!("got invalid KMSv2 KeyID hash {:?}", hash(&status.key_id)));
        } else if let Err(why) = self.rotate(&status.key_id).await {
            faults.push(why);
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(format!("kmsv2 Provider {} is not healthy, error: {}", self.name, aggregate(&faults)))
    }

    /// Has the service seal a new seed, unless the one in use is sealed with its key.
    async fn rotate(&self, key_id: &str) -> Result<(), String> {
        let until = Instant::now() + SEALS_FOR;
        if let Some(current) = self.current.load_full().filter(|current| current.envelope.key_id == key_id) {
            self.current.store(Some(Arc::new(Current { key: current.key.clone(), envelope: current.envelope.clone(), until })));
            return Ok(());
        }
        let (seed, key) = DataKey::draw();
        let request = EncryptRequest { plaintext: seed.to_vec(), uid: Uuid::new_v4().to_string() };
        let failed = |why: String| format!("failed to rotate DEK, error: {why}, statusKeyIDHash={:?}", hash(key_id));
        let answer = self.service.encrypt(request).await.map_err(|why| failed(format!("failed to encrypt DEK, error: {why}")))?;
        let mut envelope = EncryptedObject {
            encrypted_data: vec![0],
            key_id: answer.key_id,
            encrypted_dek_source: answer.ciphertext,
            annotations: answer.annotations,
            encrypted_dek_source_type: DERIVED,
        };
        envelope.check().map_err(failed)?;
        if envelope.key_id != key_id {
            return Err(failed(format!("encryptKeyIDHash={:?}", hash(&envelope.key_id))));
        }
        envelope.encrypted_data = Vec::new();
        let key = Arc::new(key);
        self.remember(fingerprint(&envelope), key.clone());
        self.current.store(Some(Arc::new(Current { key, envelope, until })));
        tracing::info!(provider = self.name, "values are sealed with a new seed from now on");
        Ok(())
    }

    /// # Errors
    /// When the service has given no seed, or has not been heard of for too long.
    pub fn seal(&self, prefix: &[u8], plain: &[u8], bound: &[u8]) -> Result<Vec<u8>, String> {
        let current = self.current.load_full().ok_or("got unexpected nil transformer")?;
        if Instant::now() > current.until {
            return Err(format!("encryptedDEKSource with keyID hash {:?} expired", hash(&current.envelope.key_id)));
        }
        let envelope = EncryptedObject { encrypted_data: current.key.seal(plain, bound)?, ..current.envelope.clone() };
        let mut sealed = Vec::with_capacity(prefix.len() + envelope.encoded_len());
        sealed.extend_from_slice(prefix);
        envelope.encode(&mut sealed).map_err(|error| error.to_string())?;
        Ok(sealed)
    }

    /// # Errors
    /// When it is no envelope, or the service does not open its seed.
    pub async fn open(&self, sealed: &[u8], bound: &[u8]) -> Result<Opened, String> {
        let envelope = EncryptedObject::decode(sealed).map_err(|error| error.to_string())?;
        envelope.check()?;
        let key = self.data_key(&envelope).await?;
        let value = key.open(&envelope.encrypted_data, bound)?.into();
        let current = self.current.load();
        let is_current = |current: &Arc<Current>| {
            current.envelope.key_id == envelope.key_id && envelope.encrypted_dek_source_type == current.envelope.encrypted_dek_source_type
        };
        Ok(Opened { value, stale: !current.as_ref().is_some_and(is_current) })
    }

    async fn data_key(&self, envelope: &EncryptedObject) -> Result<Arc<DataKey>, String> {
        let source = source_of(envelope);
        let fingerprint = fingerprint(&source);
        if let Some(known) = self.known(fingerprint, &source) {
            return known;
        }
        let _turn = self.opening.lock().await;
        match self.known(fingerprint, &source) {
            Some(known) => known,
            None => self.ask(fingerprint, &source).await,
        }
    }

    /// What is known of a seed: its key, or why there is none. Where that was a while ago, the service is asked again meanwhile.
    fn known(&self, fingerprint: [u8; 32], source: &EncryptedObject) -> Option<Result<Arc<DataKey>, String>> {
        let opened = self.opened.lock().get(&fingerprint).filter(|(_, since)| since.elapsed() < REMEMBERED_FOR).map(|(key, _)| key.clone());
        if let Some(key) = opened.or_else(|| self.current_key(source)) {
            return Some(Ok(key));
        }
        let mut refused = self.refused.lock();
        let refusal = refused.get_mut(&fingerprint)?;
        if refusal.until.is_some_and(|until| until <= Instant::now()) {
            refusal.until = None;
            let (itself, source) = (self.itself.clone(), source.clone());
            tokio::spawn(async move {
                if let Some(provider) = itself.upgrade() {
                    // What came of it is remembered.
                    let _ = provider.ask(fingerprint, &source).await;
                }
            });
        }
        Some(Err(refusal.why.clone()))
    }

    /// The seed that seals now is known as long as it may seal, however old it is.
    fn current_key(&self, source: &EncryptedObject) -> Option<Arc<DataKey>> {
        let current = self.current.load_full()?;
        (current.envelope == *source && Instant::now() <= current.until).then(|| current.key.clone())
    }

    /// Has the service open a seed, and remembers what it says.
    async fn ask(&self, fingerprint: [u8; 32], source: &EncryptedObject) -> Result<Arc<DataKey>, String> {
        let request = DecryptRequest {
            ciphertext: source.encrypted_dek_source.clone(),
            uid: Uuid::new_v4().to_string(),
            key_id: source.key_id.clone(),
            annotations: source.annotations.clone(),
        };
        let answer = self.service.decrypt(request).await.map_err(|error| shortened(&format!("failed to decrypt DEK, error: {error}")));
        let key = answer.and_then(|answer| DataKey::of(&answer.plaintext, source.encrypted_dek_source_type)).map(Arc::new);
        match &key {
            Ok(key) => {
                self.remember(fingerprint, key.clone());
                self.refused.lock().remove(&fingerprint);
            }
            Err(why) => self.refuse(fingerprint, why),
        }
        key
    }

    fn refuse(&self, fingerprint: [u8; 32], why: &str) {
        let mut refused = self.refused.lock();
        if refused.len() >= REMEMBERED {
            refused.clear();
        }
        refused.insert(fingerprint, Refusal { why: why.to_owned(), until: Some(Instant::now() + REFUSED_FOR) });
    }

    fn remember(&self, fingerprint: [u8; 32], key: Arc<DataKey>) {
        let mut opened = self.opened.lock();
        if opened.len() >= REMEMBERED {
            let oldest = opened.iter().min_by_key(|(_, (_, since))| *since).map(|(fingerprint, _)| *fingerprint);
            oldest.map(|fingerprint| opened.remove(&fingerprint));
        }
        opened.insert(fingerprint, (key, Instant::now()));
    }
}

/// An envelope without its data: all that the service is asked with.
fn source_of(envelope: &EncryptedObject) -> EncryptedObject {
    EncryptedObject {
        encrypted_data: Vec::new(),
        key_id: envelope.key_id.clone(),
        encrypted_dek_source: envelope.encrypted_dek_source.clone(),
        annotations: envelope.annotations.clone(),
        encrypted_dek_source_type: envelope.encrypted_dek_source_type,
    }
}

/// What tells one seed from another.
fn fingerprint(source: &EncryptedObject) -> [u8; 32] {
    Sha256::digest(source.encode_to_vec()).into()
}

/// Words of the service go into logs and answers.
fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_WORDS).collect()
}

/// Names of keys are not for logs.
fn hash(key_id: &str) -> String {
    if key_id.is_empty() { String::new() } else { format!("sha256:{}", hex::encode(Sha256::digest(key_id))) }
}

//! The providers of one resource: the first seals, each opens what it once sealed.

use std::{sync::Arc, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use troupe_api::{
    metrics::{Counter, Family, Histogram},
    status::aggregate,
};

use super::{
    ciphers::{Cipher, Opened},
    config::{Key, Keys},
    kms::KmsProvider,
};

/// What every sealed value begins with.
pub const SEALED: &[u8] = b"k8s:enc:";
const AES_GCM: &str = "k8s:enc:aesgcm:v1:";
const AES_CBC: &str = "k8s:enc:aescbc:v1:";
const SECRETBOX: &str = "k8s:enc:secretbox:v1:";
const KMS: &str = "k8s:enc:kms:v2:";

const SECONDS: [f64; 26] = [
    5e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4, 6.4e-4, 1.28e-3, 2.56e-3, 5.12e-3, 0.01024, 0.02048, 0.04096, 0.08192, 0.16384, 0.32768, 0.65536,
    1.31072, 2.62144, 5.24288, 10.48576, 20.97152, 41.94304, 83.88608, 167.77216,
];

pub(super) static OPERATIONS: Family<Counter> = Family::new(
    "apiserver_storage_transformation_operations_total",
    "Total number of transformations. Successful transformation will have a status 'OK' and a varied status string when the transformation fails. The status, resource, and transformation_type fields can be used for alerting purposes. For example, you can monitor for encryption/decryption failures using the transformation_type (e.g., from_storage for decryption and to_storage for encryption). Additionally, these fields can be used to ensure that the correct transformers are applied to each resource.",
    &["resource", "transformation_type", "transformer_prefix", "status"],
);
pub(super) static DURATIONS: Family<Histogram> = Family::histogram(
    "apiserver_storage_transformation_duration_seconds",
    "Latencies in seconds of value transformation operations.",
    &["transformation_type", "transformer_prefix"],
    &SECONDS,
);

struct Provider {
    /// With all keys of it; empty for `identity`.
    prefix: String,
    kind: Kind,
}

enum Kind {
    Identity,
    Keys { keys: Vec<NamedKey>, unknown: &'static str },
    Kms(Arc<KmsProvider>),
}

struct NamedKey {
    /// The provider's and the key's name, as they stand before what is sealed.
    prefix: Vec<u8>,
    /// How much of that is the provider's.
    name_at: usize,
    cipher: Cipher,
}

/// The providers of a resource, in order.
#[derive(Default)]
pub struct Providers {
    all: Vec<Arc<Provider>>,
}

/// A provider to be added to those of one or more resources.
#[derive(Clone)]
pub struct AnyProvider(Arc<Provider>);

impl AnyProvider {
    pub fn identity() -> Self {
        AnyProvider(Arc::new(Provider { prefix: String::new(), kind: Kind::Identity }))
    }

    /// # Errors
    /// When a key is none.
    pub fn aesgcm(keys: &Keys) -> Result<Self, String> {
        of_keys(AES_GCM, keys, Cipher::gcm, "no matching key was found for the provided AES transformer")
    }

    /// # Errors
    /// When a key is none.
    pub fn aescbc(keys: &Keys) -> Result<Self, String> {
        of_keys(AES_CBC, keys, Cipher::cbc, "no matching key was found for the provided AES transformer")
    }

    /// # Errors
    /// When a key is none.
    pub fn secretbox(keys: &Keys) -> Result<Self, String> {
        of_keys(SECRETBOX, keys, Cipher::secretbox, "no matching key was found for the provided Secretbox transformer")
    }

    pub fn kms(provider: Arc<KmsProvider>) -> Self {
        AnyProvider(Arc::new(Provider { prefix: format!("{KMS}{}:", provider.name()), kind: Kind::Kms(provider) }))
    }
}

fn of_keys(prefix: &str, keys: &Keys, make: impl Fn(&[u8]) -> Option<Cipher>, unknown: &'static str) -> Result<AnyProvider, String> {
    let named = |Key { name, secret }: &Key| {
        let secret = STANDARD.decode(secret).map_err(|error| format!("could not obtain secret for named key {name}: {error}"))?;
        let cipher = make(&secret).ok_or_else(|| format!("error while creating cipher for named key {name}: invalid key size {}", secret.len()))?;
        Ok::<_, String>(NamedKey { prefix: format!("{prefix}{name}:").into_bytes(), name_at: prefix.len(), cipher })
    };
    let keys = keys.keys.iter().map(named).collect::<Result<_, _>>()?;
    Ok(AnyProvider(Arc::new(Provider { prefix: prefix.to_owned(), kind: Kind::Keys { keys, unknown } })))
}

impl Providers {
    pub fn add(&mut self, providers: &[AnyProvider]) {
        self.all.extend(providers.iter().map(|provider| provider.0.clone()));
    }

    /// Seals what is written under `key`.
    ///
    /// # Errors
    /// When the keys' service does not give a key.
    pub fn seal(&self, resource: &str, plain: &Bytes, key: &[u8]) -> Result<Bytes, String> {
        let Some(first) = self.all.first() else { return Ok(plain.clone()) };
        let begun = Instant::now();
        let sealed = match &first.kind {
            Kind::Identity => Ok(plain.clone()),
            Kind::Keys { keys, .. } => match keys.first() {
                Some(named) => named.cipher.seal(&named.prefix, plain, key).map(Bytes::from),
                None => Err("there is no key".into()),
            },
            Kind::Kms(provider) => provider.seal(first.prefix.as_bytes(), plain, key).map(Bytes::from),
        };
        note(resource, "to_storage", &first.prefix, sealed.is_ok(), begun);
        sealed
    }

    /// Opens what lies under `key`.
    ///
    /// # Errors
    /// When no provider can.
    pub async fn open(&self, resource: &str, stored: &Bytes, key: &[u8]) -> Result<Opened, String> {
        let (mut refusals, begun) = (Vec::new(), Instant::now());
        for (index, provider) in self.all.iter().enumerate() {
            let Some(rest) = stored.strip_prefix(provider.prefix.as_bytes()) else { continue };
            let opened = match &provider.kind {
                // What another sealed.
                Kind::Identity if stored.starts_with(SEALED) => continue,
                Kind::Identity => Ok(Opened { value: stored.clone(), stale: false }),
                Kind::Keys { keys, unknown } => open_with_keys(keys, unknown, rest, key),
                Kind::Kms(kms) => kms.open(rest, key).await,
            };
            let shown = if provider.prefix.is_empty() { "identity" } else { &provider.prefix };
            note(resource, "from_storage", shown, opened.is_ok(), begun);
            match opened {
                Ok(opened) => return Ok(Opened { stale: opened.stale || index != 0, ..opened }),
                Err(why) => refusals.push(why),
            }
        }
        if refusals.is_empty() {
            note(resource, "from_storage", "unknown", false, begun);
            return Err("no matching prefix found".into());
        }
        Err(aggregate(&refusals))
    }
}

/// `rest` stands behind the provider's own name.
fn open_with_keys(keys: &[NamedKey], unknown: &str, rest: &[u8], key: &[u8]) -> Result<Opened, String> {
    let mut refusals = Vec::new();
    for (index, named) in keys.iter().enumerate() {
        let Some(sealed) = rest.strip_prefix(&named.prefix[named.name_at..]) else { continue };
        match named.cipher.open(sealed, key) {
            Ok(value) => return Ok(Opened { value: value.into(), stale: index != 0 }),
            Err(why) => refusals.push(why),
        }
    }
    if refusals.is_empty() { Err(unknown.to_owned()) } else { Err(aggregate(&refusals)) }
}

fn note(resource: &str, direction: &str, prefix: &str, worked: bool, begun: Instant) {
    let status = if worked { "OK" } else { "Unknown" };
    OPERATIONS.with(&[resource, direction, prefix, status]).increment();
    if worked {
        DURATIONS.with(&[direction, prefix]).observe_time(begun.elapsed());
    }
}

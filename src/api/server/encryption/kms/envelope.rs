//! The envelope, and the keys that are derived of a seed.

use std::collections::BTreeMap;

use rand::RngCore;
use ring::hkdf;
use troupe_api::meta::names;

use crate::encryption::ciphers::Cipher;

/// How long seeds and what is drawn with them are.
pub const SEED: usize = 32;
const MOST_ANNOTATIONS: usize = 32 << 10;
const MOST_KEY_ID: usize = 1 << 10;
const MOST_SOURCE: usize = 1 << 10;

/// The source of a key is the key itself.
pub const KEY: i32 = 0;
/// The key is drawn of a seed and of what stands before the sealed bytes.
pub const DERIVED: i32 = 1;

/// What lies in the store.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptedObject {
    #[prost(bytes = "vec", tag = "1")]
    pub encrypted_data: Vec<u8>,
    #[prost(string, tag = "2")]
    pub key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub encrypted_dek_source: Vec<u8>,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub annotations: BTreeMap<String, Vec<u8>>,
    #[prost(int32, tag = "5")]
    pub encrypted_dek_source_type: i32,
}

impl EncryptedObject {
    /// Refuses what no server of upstream's would write.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let (source, key) = (self.encrypted_dek_source.len(), self.key_id.len());
        let kind = self.encrypted_dek_source_type;
        match () {
            () if kind != KEY && kind != DERIVED => Err(format!("unknown encryptedDEKSourceType: {kind}")),
            () if self.encrypted_data.is_empty() => Err("encrypted data is empty".into()),
            () if source == 0 => Err("failed to validate encrypted DEK source: encrypted DEK source is empty".into()),
            () if source > MOST_SOURCE => Err(format!(
                "failed to validate encrypted DEK source: encrypted DEK source is {source} bytes, which exceeds the max size of {MOST_SOURCE}"
            )),
            () if key == 0 => Err("failed to validate key id: keyID is empty".into()),
            () if key > MOST_KEY_ID => Err(format!("failed to validate key id: keyID is {key} bytes, which exceeds the max size of {MOST_KEY_ID}")),
            () => check_annotations(&self.annotations).map_err(|why| format!("failed to validate annotations: {why}")),
        }
    }
}

fn check_annotations(annotations: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    for name in annotations.keys() {
        let odd = names::subdomain(name, false);
        if !odd.is_empty() || !name.contains('.') {
            let why = odd.first().cloned().unwrap_or_else(|| "should be a domain with at least two segments separated by dots".into());
            return Err(format!("annotations: Invalid value: {name:?}: {why}"));
        }
    }
    let total: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > MOST_ANNOTATIONS {
        return Err(format!("total size of annotations is {total}, which exceeds the max size of {MOST_ANNOTATIONS}"));
    }
    Ok(())
}

/// What seals and opens data.
pub enum DataKey {
    Key(Cipher),
    Seed([u8; SEED]),
}

impl DataKey {
    /// A new seed.
    pub fn draw() -> ([u8; SEED], Self) {
        let mut seed = [0; SEED];
        rand::rng().fill_bytes(&mut seed);
        (seed, DataKey::Seed(seed))
    }

    /// The key that `source` is, or gives.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(source: &[u8], kind: i32) -> Result<Self, String> {
        if kind == KEY {
            return Cipher::gcm(source).map(DataKey::Key).ok_or_else(|| format!("crypto/aes: invalid key size {}", source.len()));
        }
        source.try_into().map(DataKey::Seed).map_err(|_| format!("invalid seed length {} used for key generation", source.len()))
    }

    /// # Errors
    /// When the value is too long.
    pub fn seal(&self, plain: &[u8], bound: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            DataKey::Key(cipher) => cipher.seal(&[], plain, bound),
            DataKey::Seed(seed) => {
                let mut info = [0; SEED];
                rand::rng().fill_bytes(&mut info);
                derived(seed, &info)?.seal(&info, plain, bound)
            }
        }
    }

    /// # Errors
    /// When it was sealed otherwise.
    pub fn open(&self, sealed: &[u8], bound: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            DataKey::Key(cipher) => cipher.open(sealed, bound),
            DataKey::Seed(seed) => {
                let (info, rest) = sealed.split_at_checked(SEED).ok_or("the stored data was shorter than the required size")?;
                derived(seed, info)?.open(rest, bound)
            }
        }
    }
}

struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        SEED
    }
}

/// The key of one value: the expanding half of HKDF (RFC 5869).
fn derived(seed: &[u8; SEED], info: &[u8]) -> Result<Cipher, String> {
    let mut key = [0; SEED];
    let source = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, seed);
    let filled = source.expand(&[info], KeyLength).and_then(|expanded| expanded.fill(&mut key));
    filled.ok().and_then(|()| Cipher::gcm(&key)).ok_or_else(|| "failed to KDF expand seed with info".to_owned())
}

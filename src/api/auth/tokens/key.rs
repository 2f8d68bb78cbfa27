//! ES256 keys: signing, verifying, and their public face (key ids, JWKS).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// What stands before the curve point in the DER of a P-256 public key (SubjectPublicKeyInfo).
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03,
    0x42, 0x00,
];
/// An uncompressed point: 0x04, x, y.
const POINT: usize = 65;

/// Why a key cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("the service account key file holds no PKCS#8 private key in PEM")]
    NoKey,
    #[error("the service account key is no P-256 key: {0}")]
    NotP256(String),
    #[error("signing failed")]
    Signing,
}

/// The private key that signs service account tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    random: SystemRandom,
}

/// A key that verifies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    point: Vec<u8>,
    id: String,
}

impl SigningKey {
    /// Reads a PKCS#8 key in PEM, as `sa.key` holds it.
    ///
    /// # Errors
    /// When there is none, or it is for another algorithm.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = rustls_pemfile::pkcs8_private_keys(&mut pem.as_bytes()).next();
        let key = key.and_then(Result::ok).ok_or(KeyError::NoKey)?;
        SigningKey::from_pkcs8(key.secret_pkcs8_der())
    }

    /// Reads a PKCS#8 key in DER.
    ///
    /// # Errors
    /// When it is for another algorithm.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).map_err(|error| KeyError::NotP256(error.to_string()))?;
        let public = PublicKey::from_point(pair.public_key().as_ref()).ok_or_else(|| KeyError::NotP256("unexpected public key".into()))?;
        Ok(SigningKey { pair, public, random })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A compact JWS over `claims`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"alg": "ES256", "kid": self.public.id});
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&self.random, message.as_bytes()).map_err(|_| KeyError::Signing)?;
        Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl PublicKey {
    /// Takes an uncompressed curve point.
    fn from_point(point: &[u8]) -> Option<Self> {
        if point.len() != POINT {
            return None;
        }
        let mut spki = SPKI_HEAD.to_vec();
        spki.extend_from_slice(point);
        Some(PublicKey { point: point.to_vec(), id: BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&spki)) })
    }

    /// Reads a public key from the DER of its SubjectPublicKeyInfo; `None` unless it is a P-256 key.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        der.strip_prefix(&SPKI_HEAD).and_then(PublicKey::from_point)
    }

    /// The `kid` of tokens signed with this key: a hash of the public key, as upstream computes it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether `signature` (r and s, 32 bytes each) is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point).verify(message, signature).is_ok()
    }

    /// The key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let coordinate = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = self.point[1..].split_at(32);
        json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": coordinate(x), "y": coordinate(y)})
    }
}

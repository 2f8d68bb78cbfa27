//! The keys of an issuer (JWKS, RFC 7517), and signatures made with them (RFC 7518).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use sha2::{Digest, Sha512};
use troupe_api::certificates::p521;

/// Keys that are kept of one issuer.
const MOST_KEYS: usize = 256;

/// What upstream takes and this server can verify.
pub const ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

/// A key with its name.
pub struct Key {
    id: String,
    kind: Kind,
}

enum Kind {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Vec<u8>),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    purpose: String,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

/// Reads a key set. Keys of other kinds are left out.
///
/// # Errors
/// When it is none.
pub fn read(text: &[u8]) -> Result<Vec<Key>, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| format!("oidc: failed to decode keys: {error}"))?;
    Ok(document.keys.into_iter().filter(|entry| matches!(entry.purpose.as_str(), "" | "sig")).filter_map(key).take(MOST_KEYS).collect())
}

fn key(entry: Entry) -> Option<Key> {
    let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok().filter(|bytes| !bytes.is_empty());
    let point = |length: usize| {
        let (x, y) = (bytes(&entry.x)?, bytes(&entry.y)?);
        (x.len() == length && y.len() == length).then(|| [&[4][..], &x, &y].concat())
    };
    let kind = match (entry.kty.as_str(), entry.crv.as_str()) {
        ("RSA", _) => Kind::Rsa { modulus: bytes(&entry.n)?, exponent: bytes(&entry.e)? },
        ("EC", "P-256") => Kind::P256(point(32)?),
        ("EC", "P-384") => Kind::P384(point(48)?),
        ("EC", "P-521") => Kind::P521(point(66)?),
        _ => return None,
    };
    Some(Key { id: entry.kid, kind })
}

impl Key {
    /// Whether a token that names `id` may be signed with it.
    pub fn is_named(&self, id: &str) -> bool {
        id.is_empty() || self.id == id
    }

    /// Whether it signed `message`.
    pub fn verifies(&self, algorithm: &str, message: &[u8], signed: &[u8]) -> bool {
        match &self.kind {
            Kind::Rsa { modulus, exponent } => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signed).is_ok()
            }
            Kind::P256(point) => {
                algorithm == "ES256" && UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signed).is_ok()
            }
            Kind::P384(point) => {
                algorithm == "ES384" && UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, signed).is_ok()
            }
            Kind::P521(point) => algorithm == "ES512" && p521::verify_fixed(point, &Sha512::digest(message), signed),
        }
    }
}

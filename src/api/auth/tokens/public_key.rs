//! Keys that verify service account tokens: of P-256 (ES256) and RSA (RS256); their ids and JWKS.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use yasna::{ASN1Result, models::ObjectIdentifier};

/// What stands before the curve point in the DER of a P-256 public key (SubjectPublicKeyInfo).
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03,
    0x42, 0x00,
];
/// An uncompressed point: 0x04, x, y.
const POINT: usize = 65;
/// `rsaEncryption`.
const RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];

/// A key that verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    form: Form,
    id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// An uncompressed point of P-256.
    Point(Vec<u8>),
    /// An RSAPublicKey (RFC 8017, A.1.1) in DER, its modulus and its exponent without leading zeros.
    Rsa { der: Vec<u8>, modulus: Vec<u8>, exponent: Vec<u8> },
}

impl PublicKey {
    /// Takes an uncompressed curve point.
    pub(super) fn from_point(point: &[u8]) -> Option<Self> {
        if point.len() != POINT {
            return None;
        }
        let mut spki = SPKI_HEAD.to_vec();
        spki.extend_from_slice(point);
        Some(PublicKey { form: Form::Point(point.to_vec()), id: id(&spki) })
    }

    /// Takes an RSAPublicKey in DER; `None` when it is none.
    pub(super) fn from_rsa(der: &[u8]) -> Option<Self> {
        let (modulus, exponent) = rsa_numbers(der).ok()?;
        Some(PublicKey { form: Form::Rsa { der: der.to_vec(), modulus, exponent }, id: id(&rsa_spki(der)) })
    }

    /// Reads a public key from the DER of its SubjectPublicKeyInfo; `None` unless it is of P-256 or RSA.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        match der.strip_prefix(&SPKI_HEAD) {
            Some(point) => PublicKey::from_point(point),
            None => PublicKey::from_rsa(&rsa_of_spki(der).ok()??),
        }
    }

    /// The `kid` of tokens signed with this key: a hash of the public key, as upstream computes it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How tokens of this key are signed, as JWS names it.
    pub fn algorithm(&self) -> &'static str {
        match self.form {
            Form::Point(_) => "ES256",
            Form::Rsa { .. } => "RS256",
        }
    }

    /// Whether `signature` (of P-256: r and s, 32 bytes each) is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.form {
            Form::Point(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok(),
            Form::Rsa { der, .. } => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(message, signature).is_ok(),
        }
    }

    /// The key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match &self.form {
            Form::Point(point) => {
                let (x, y) = point[1..].split_at(32);
                json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": self.algorithm(), "x": number(x), "y": number(y)})
            }
            Form::Rsa { modulus, exponent, .. } => {
                json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": self.algorithm(), "n": number(modulus), "e": number(exponent)})
            }
        }
    }
}

fn id(spki: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(spki))
}

/// Modulus and exponent.
fn rsa_numbers(der: &[u8]) -> ASN1Result<(Vec<u8>, Vec<u8>)> {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            let (modulus, _) = reader.next().read_bigint_bytes()?;
            let (exponent, _) = reader.next().read_bigint_bytes()?;
            Ok((without_zeros(&modulus), without_zeros(&exponent)))
        })
    })
}

/// A positive number of DER as JWKs have it.
fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}

fn rsa_spki(der: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(RSA));
                writer.next().write_null();
            });
            writer.next().write_bitvec_bytes(der, der.len() * 8);
        });
    })
}

/// The RSAPublicKey within a SubjectPublicKeyInfo; `None` where it is of another algorithm.
fn rsa_of_spki(der: &[u8]) -> ASN1Result<Option<Vec<u8>>> {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            let algorithm = reader.next().read_sequence(|reader| {
                let algorithm = reader.next().read_oid()?;
                reader.read_optional(|reader| reader.read_tagged_der())?;
                Ok(algorithm)
            })?;
            let (key, _) = reader.next().read_bitvec_bytes()?;
            Ok((algorithm == ObjectIdentifier::from_slice(RSA)).then_some(key))
        })
    })
}

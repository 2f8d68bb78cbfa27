//! Keys that verify service account tokens: of P-256 (ES256), P-384 (ES384), P-521 (ES512) and RSA (RS256); their ids and JWKS.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use yasna::{ASN1Result, DERWriter, models::ObjectIdentifier};

use crate::certificates::p521;

/// `rsaEncryption` and `id-ecPublicKey`.
const RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
const EC: &[u64] = &[1, 2, 840, 10_045, 2, 1];

/// A key that verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    form: Form,
    id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// An uncompressed point: 4, x, y.
    Point(Curve, Vec<u8>),
    /// An RSAPublicKey (RFC 8017, A.1.1) in DER, its modulus and its exponent without leading zeros.
    Rsa { der: Vec<u8>, modulus: Vec<u8>, exponent: Vec<u8> },
}

/// A curve whose keys sign tokens (RFC 7518, 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn oid(self) -> &'static [u64] {
        match self {
            Curve::P256 => &[1, 2, 840, 10_045, 3, 1, 7],
            Curve::P384 => &[1, 3, 132, 0, 34],
            Curve::P521 => &[1, 3, 132, 0, 35],
        }
    }

    /// Octets of a coordinate.
    fn octets(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    /// Its name and that of its algorithm, as JWKs have them.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Curve::P256 => ("P-256", "ES256"),
            Curve::P384 => ("P-384", "ES384"),
            Curve::P521 => ("P-521", "ES512"),
        }
    }

    fn verifies(self, point: &[u8], message: &[u8], signature: &[u8]) -> bool {
        match self {
            Curve::P256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok(),
            Curve::P384 => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature).is_ok(),
            Curve::P521 => p521::verify_fixed(point, &Sha512::digest(message), signature),
        }
    }
}

impl PublicKey {
    /// Takes an uncompressed point of a curve.
    pub(super) fn from_point(curve: Curve, point: &[u8]) -> Option<Self> {
        if point.len() != 1 + 2 * curve.octets() || point[0] != 4 {
            return None;
        }
        Some(PublicKey { form: Form::Point(curve, point.to_vec()), id: id(&ec_spki(curve, point)) })
    }

    /// Takes an RSAPublicKey in DER; `None` when it is none.
    pub(super) fn from_rsa(der: &[u8]) -> Option<Self> {
        let (modulus, exponent) = rsa_numbers(der).ok()?;
        Some(PublicKey { form: Form::Rsa { der: der.to_vec(), modulus, exponent }, id: id(&rsa_spki(der)) })
    }

    /// Reads a public key from the DER of its SubjectPublicKeyInfo; `None` unless it is of RSA or one of the curves.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let Spki { algorithm, beside, key } = read_spki(der).ok()?;
        if algorithm == ObjectIdentifier::from_slice(RSA) {
            return PublicKey::from_rsa(&key);
        }
        let named = yasna::parse_der(&beside?, |reader| reader.read_oid()).ok().filter(|_| algorithm == ObjectIdentifier::from_slice(EC))?;
        let curve = Curve::ALL.into_iter().find(|curve| ObjectIdentifier::from_slice(curve.oid()) == named)?;
        PublicKey::from_point(curve, &key)
    }

    /// The same key under another id, as whoever signs with it calls it.
    #[must_use]
    pub fn called(self, id: impl Into<String>) -> Self {
        PublicKey { id: id.into(), ..self }
    }

    /// The `kid` of tokens signed with this key: a hash of the public key, as upstream computes it, unless it is called otherwise.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How tokens of this key are signed, as JWS names it.
    pub fn algorithm(&self) -> &'static str {
        match self.form {
            Form::Point(curve, _) => curve.names().1,
            Form::Rsa { .. } => "RS256",
        }
    }

    /// Whether `signature` (of a curve: r and s, each as long as a coordinate) is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.form {
            Form::Point(curve, point) => curve.verifies(point, message, signature),
            Form::Rsa { der, .. } => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(message, signature).is_ok(),
        }
    }

    /// The key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match &self.form {
            Form::Point(curve, point) => {
                let (x, y) = point[1..].split_at(curve.octets());
                let (name, algorithm) = curve.names();
                json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": name, "alg": algorithm, "x": number(x), "y": number(y)})
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
    spki(RSA, |writer| writer.write_null(), der)
}

fn ec_spki(curve: Curve, point: &[u8]) -> Vec<u8> {
    spki(EC, |writer| writer.write_oid(&ObjectIdentifier::from_slice(curve.oid())), point)
}

/// A SubjectPublicKeyInfo, with what stands beside the algorithm.
fn spki(algorithm: &[u64], beside: impl FnOnce(DERWriter<'_>), key: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(algorithm));
                beside(writer.next());
            });
            writer.next().write_bitvec_bytes(key, key.len() * 8);
        });
    })
}

/// A SubjectPublicKeyInfo taken apart.
struct Spki {
    algorithm: ObjectIdentifier,
    /// What stands beside the algorithm, in DER.
    beside: Option<Vec<u8>>,
    key: Vec<u8>,
}

fn read_spki(der: &[u8]) -> ASN1Result<Spki> {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            let (algorithm, beside) = reader.next().read_sequence(|reader| {
                let algorithm = reader.next().read_oid()?;
                let beside = reader.read_optional(|reader| reader.read_der())?;
                Ok((algorithm, beside))
            })?;
            let (key, _) = reader.next().read_bitvec_bytes()?;
            Ok(Spki { algorithm, beside, key })
        })
    })
}

//! Keys for pods, each with a request that proves that whoever asks has it (KEP-4317).
//!
//! In: the type of a key as a pod's volume names it. Out: the key in PKCS#8, and an empty PKCS#10 request that it signed. ring makes those on
//! P-256 and P-384 and of Ed25519; what it does not make, [`rsa`] and [`p521`] do.

pub mod p521;
pub(super) mod rsa;

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha512};
use thiserror::Error;
use yasna::{Tag, models::ObjectIdentifier};

use super::encoding::{algorithm, pem};

/// `id-Ed25519` (RFC 8410).
const ED25519: &[u64] = &[1, 3, 101, 112];
/// `ecdsa-with-SHA512` (RFC 5758).
const ECDSA_WITH_SHA512: &[u64] = &[1, 2, 840, 10_045, 4, 3, 4];

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("unknown key type {0:?}")]
    Unknown(String),
    #[error("the system gives no random numbers")]
    Random,
    #[error("the key cannot be used: {0}")]
    Unusable(#[from] rcgen::Error),
}

/// A private key, and a request for a certificate that it signed.
#[derive(Clone)]
pub struct ProvenKey {
    /// PKCS#8 in PEM.
    pub key_pem: String,
    /// PKCS#10 in DER, with neither subject nor attributes.
    pub request: Vec<u8>,
}

impl ProvenKey {
    /// Makes a key of a type that volumes may name, such as `ECDSAP256`. It takes up to seconds (RSA) of a processor's time: call it where
    /// nobody waits.
    ///
    /// # Errors
    /// When there is no such type, or the system has no random numbers.
    pub fn generate(key_type: &str) -> Result<Self, KeyError> {
        match key_type {
            "RSA3072" => ProvenKey::of_pkcs8(rsa::generate(3072)?),
            "RSA4096" => ProvenKey::of_pkcs8(rsa::generate(4096)?),
            "ECDSAP256" => ProvenKey::of_pair(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?),
            "ECDSAP384" => ProvenKey::of_pair(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?),
            "ECDSAP521" => ProvenKey::on_p521(),
            "ED25519" => ProvenKey::of_pkcs8(ed25519(&random(32)?)),
            other => Err(KeyError::Unknown(other.to_owned())),
        }
    }

    fn of_pkcs8(der: Vec<u8>) -> Result<Self, KeyError> {
        ProvenKey::of_pair(&KeyPair::try_from(&PrivatePkcs8KeyDer::from(der))?)
    }

    fn of_pair(key: &KeyPair) -> Result<Self, KeyError> {
        let algorithm = algorithm(key).ok_or(rcgen::Error::UnsupportedSignatureAlgorithm)?;
        let request = request(&key.subject_public_key_info(), &algorithm, |content| Ok(key.sign(content)?))?;
        Ok(ProvenKey { key_pem: pem("PRIVATE KEY", &key.serialize_der()), request })
    }

    fn on_p521() -> Result<Self, KeyError> {
        let key = p521::PrivateKey::generate()?;
        let algorithm = yasna::construct_der(|writer| writer.write_sequence(|writer| write_oid(writer, ECDSA_WITH_SHA512)));
        let request = request(&key.public_key_info(), &algorithm, |content| key.sign(&Sha512::digest(content)))?;
        Ok(ProvenKey { key_pem: pem("PRIVATE KEY", &key.pkcs8()), request })
    }
}

fn write_oid(writer: &mut yasna::DERWriterSeq<'_>, oid: &[u64]) {
    writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
}

/// An Ed25519 key in the first version of PKCS#8, which every library reads.
fn ed25519(seed: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            writer.next().write_sequence(|writer| write_oid(writer, ED25519));
            writer.next().write_bytes(&yasna::construct_der(|writer| writer.write_bytes(seed)));
        });
    })
}

/// An empty request for the public key, signed by `sign`.
fn request(public_key: &[u8], algorithm: &[u8], sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>) -> Result<Vec<u8>, KeyError> {
    let content = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            writer.next().write_sequence(|_| {});
            writer.next().write_der(public_key);
            writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_set(|_| {}));
        });
    });
    let signature = sign(&content)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&content);
            writer.next().write_der(algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

/// So many bytes that nobody guesses.
fn random(length: usize) -> Result<Vec<u8>, KeyError> {
    let mut bytes = vec![0; length];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::{SigningRequest, private_key};

    fn proven(key_type: &str) -> (ProvenKey, SigningRequest) {
        let key = ProvenKey::generate(key_type).expect("a key");
        let request = SigningRequest::from_der(key.request.clone()).expect("a request");
        (key, request)
    }

    #[test]
    fn each_type_of_key_signs_its_own_empty_request() {
        for key_type in ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072"] {
            let (key, request) = proven(key_type);
            request.verify().expect(key_type);
            assert!(request.common_name.is_empty() && request.dns_names.is_empty(), "{key_type}");
            assert!(key.key_pem.starts_with("-----BEGIN PRIVATE KEY-----\n") && !key.key_pem.contains('\r'), "{key_type}");
            if key_type != "ECDSAP521" {
                let again = private_key::key_pair(&key.key_pem).expect("reads");
                assert_eq!(again.subject_public_key_info(), request.public_key, "{key_type}");
            }
        }
    }

    #[test]
    fn no_two_keys_are_the_same_and_no_other_types_there() {
        assert_ne!(proven("ED25519").1.public_key, proven("ED25519").1.public_key);
        assert_ne!(proven("ECDSAP521").1.public_key, proven("ECDSAP521").1.public_key);
        let refused = ProvenKey::generate("RSA1024").err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some("unknown key type \"RSA1024\""));
    }

    #[test]
    fn a_request_that_somebody_changed_does_not_verify() {
        for key_type in ["ECDSAP521", "ED25519"] {
            let mut request = ProvenKey::generate(key_type).expect("a key").request;
            let last = request.len() - 1;
            request[last] ^= 1;
            assert!(SigningRequest::from_der(request).expect("reads").verify().is_err(), "{key_type}");
        }
    }
}

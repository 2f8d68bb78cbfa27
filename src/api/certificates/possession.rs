//! Public keys, and what proves that somebody has the private one: the signature of a request, or that of a bare message.
//!
//! ring verifies most of it; signatures on P-521, and with PSS whose salt is of any length, are verified by the module `keys`.

use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::{certification_request::X509CertificationRequest, num_bigint::BigUint, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::keys::{p521, rsa};

const RSA_OID: &str = "1.2.840.113549.1.1.1";
const ELLIPTIC_OID: &str = "1.2.840.10045.2.1";
const ED25519_OID: &str = "1.3.101.112";
/// The curve that ring does not have.
const P521: &str = "P-521";
/// Curves with their names and the octets of a coordinate.
const CURVES: [(&str, &str, usize); 4] =
    [("1.3.132.0.33", "P-224", 28), ("1.2.840.10045.3.1.7", "P-256", 32), ("1.3.132.0.34", "P-384", 48), ("1.3.132.0.35", P521, 66)];

/// What a public key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The octets of the modulus, in bits.
    Rsa {
        bits: u64,
    },
    /// On a curve of this name.
    Elliptic(&'static str),
    Ed25519,
    /// Something that signs nothing here.
    Other,
}

impl KeyKind {
    /// The kind of a key; `None` for one that is not what its algorithm says, or on a curve that nobody knows.
    pub fn of(key: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let octets: &[u8] = &key.subject_public_key.data;
        match key.algorithm.algorithm.to_id_string().as_str() {
            RSA_OID => match key.parsed().ok()? {
                PublicKey::RSA(key) => Some(KeyKind::Rsa { bits: BigUint::from_bytes_be(key.modulus).bits().div_ceil(8) * 8 }),
                _ => None,
            },
            ELLIPTIC_OID => {
                let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
                let (_, name, length) = CURVES.into_iter().find(|(id, ..)| *id == curve)?;
                let is_point = octets.len() == 1 + 2 * length && octets[0] == 4 && (name != P521 || p521::is_point(octets));
                is_point.then_some(KeyKind::Elliptic(name))
            }
            ED25519_OID => (octets.len() == 32).then_some(KeyKind::Ed25519),
            _ => Some(KeyKind::Other),
        }
    }
}

/// Whether a request was signed by the key that it is for.
pub fn verify(request: &X509CertificationRequest<'_>) -> bool {
    let info = &request.certification_request_info;
    if KeyKind::of(&info.subject_pki) != Some(KeyKind::Elliptic(P521)) {
        return request.verify_signature().is_ok();
    }
    let digest = match request.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.4.3.2" => Sha256::digest(info.raw).to_vec(),
        "1.2.840.10045.4.3.3" => Sha384::digest(info.raw).to_vec(),
        "1.2.840.10045.4.3.4" => Sha512::digest(info.raw).to_vec(),
        _ => return false,
    };
    p521::verify(&info.subject_pki.subject_public_key.data, &digest, &request.signature_value.data)
}

/// Whether the owner of the key signed the message: with SHA-256, and with PSS where it is an RSA key.
pub fn signed(key: &SubjectPublicKeyInfo<'_>, message: &[u8], signature: &[u8]) -> bool {
    let octets: &[u8] = &key.subject_public_key.data;
    let by = |algorithm: &'static dyn VerificationAlgorithm| UnparsedPublicKey::new(algorithm, octets).verify(message, signature).is_ok();
    match KeyKind::of(key) {
        Some(KeyKind::Ed25519) => by(&ED25519),
        Some(KeyKind::Elliptic("P-256")) => by(&ECDSA_P256_SHA256_ASN1),
        Some(KeyKind::Elliptic("P-384")) => by(&ECDSA_P384_SHA256_ASN1),
        Some(KeyKind::Elliptic(P521)) => p521::verify(octets, &Sha256::digest(message), signature),
        Some(KeyKind::Rsa { .. }) => match key.parsed() {
            Ok(PublicKey::RSA(key)) => rsa::verify_pss(key.modulus, key.exponent, message, signature),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData, SigningKey};
    use x509_parser::prelude::FromDer;

    use super::*;

    fn info(der: &[u8]) -> SubjectPublicKeyInfo<'_> {
        SubjectPublicKeyInfo::from_der(der).expect("a key").1
    }

    #[test]
    fn kinds_of_keys_are_told_apart() {
        let of = |algorithm: &'static rcgen::SignatureAlgorithm| {
            let der = KeyPair::generate_for(algorithm).expect("a key").subject_public_key_info();
            KeyKind::of(&info(&der))
        };
        assert_eq!(of(&rcgen::PKCS_ED25519), Some(KeyKind::Ed25519));
        assert_eq!(of(&rcgen::PKCS_ECDSA_P256_SHA256), Some(KeyKind::Elliptic("P-256")));
        assert_eq!(of(&rcgen::PKCS_ECDSA_P384_SHA384), Some(KeyKind::Elliptic("P-384")));
        assert_eq!(KeyKind::of(&info(include_bytes!("testdata/p521.pub.der"))), Some(KeyKind::Elliptic("P-521")));
        assert_eq!(KeyKind::of(&info(include_bytes!("testdata/rsa-3072.pub.der"))), Some(KeyKind::Rsa { bits: 3072 }));
        let mut short = include_bytes!("testdata/p521.pub.der").to_vec();
        let place = short.len() - 133;
        short[place] = 2;
        assert_eq!(KeyKind::of(&info(&short)), None);
    }

    #[test]
    fn messages_of_other_libraries_verify() {
        for (key, signature) in [
            (&include_bytes!("testdata/p521.pub.der")[..], &include_bytes!("testdata/p521.sig")[..]),
            (&include_bytes!("testdata/rsa-3072.pub.der")[..], &include_bytes!("testdata/rsa-pss.sig")[..]),
        ] {
            assert!(signed(&info(key), b"pod-uid", signature));
            assert!(!signed(&info(key), b"pod-uie", signature));
        }
    }

    #[test]
    fn messages_of_each_smaller_key_verify() {
        for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256] {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let der = key.subject_public_key_info();
            let signature = key.sign(b"uid").expect("signs");
            assert!(signed(&info(&der), b"uid", &signature));
            assert!(!signed(&info(&der), b"another", &signature));
        }
    }

    #[test]
    fn a_request_of_another_library_on_p521_verifies() {
        let der = include_bytes!("testdata/p521.csr.der");
        let (_, request) = X509CertificationRequest::from_der(der).expect("a request");
        assert!(verify(&request));
        let mut changed = der.to_vec();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        assert!(!verify(&X509CertificationRequest::from_der(&changed).expect("a request").1));
    }
}

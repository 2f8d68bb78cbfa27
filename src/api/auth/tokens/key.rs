//! Keys that sign service account tokens: of P-256 (ES256), as they are made here, P-384 (ES384) and RSA (RS256), as kubeadm makes them.
//!
//! P-521 (ES512) verifies only: what computes on that curve here takes a time that depends on the secret, which signs too often to bear that.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pemfile::Item;
use serde_json::{Value, json};
use thiserror::Error;

use super::public_key::{Curve, PublicKey};
use crate::certificates::private_key;

/// Why a key cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("the service account key file holds no private key in PEM")]
    NoKey,
    #[error("the service account key is neither one of P-256 or P-384 ({0}) nor of RSA with 2048 to 4096 bits ({1})")]
    Unusable(String, String),
    #[error(
        "the file holds no key in PEM that tokens are verified with: public ones, private ones or certificates of RSA, P-256, P-384 or (not private) P-521"
    )]
    NoPublicKey,
    #[error("signing failed")]
    Signing,
}

/// The private key that signs service account tokens.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
    random: SystemRandom,
}

enum Pair {
    Elliptic(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Reads the first private key in PEM, as `sa.key` holds it: PKCS#8, PKCS#1 or SEC 1.
    ///
    /// # Errors
    /// When there is none, or it is for another algorithm.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8(&private_key::pkcs8_of_pem(pem).ok_or(KeyError::NoKey)?)
    }

    /// Reads a PKCS#8 key in DER.
    ///
    /// # Errors
    /// When it is for another algorithm.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let mut refused = Vec::new();
        for (curve, algorithm) in [(Curve::P256, &ECDSA_P256_SHA256_FIXED_SIGNING), (Curve::P384, &ECDSA_P384_SHA384_FIXED_SIGNING)] {
            match EcdsaKeyPair::from_pkcs8(algorithm, der, &random) {
                Ok(pair) => {
                    let public = PublicKey::from_point(curve, pair.public_key().as_ref());
                    let public = public.ok_or_else(|| KeyError::Unusable("unexpected public key".into(), String::new()))?;
                    return Ok(SigningKey { pair: Pair::Elliptic(Box::new(pair)), public, random });
                }
                Err(why) => refused.push(why.to_string()),
            }
        }
        let unusable = |why: String| KeyError::Unusable(refused.join(", "), why);
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|error| unusable(error.to_string()))?;
        let public = PublicKey::from_rsa(pair.public().as_ref()).ok_or_else(|| unusable("unexpected public key".into()))?;
        Ok(SigningKey { pair: Pair::Rsa(Box::new(pair)), public, random })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A compact JWS over `claims`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"alg": self.public.algorithm(), "kid": self.public.id()});
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.signature(message.as_bytes())?;
        Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signed = match &self.pair {
            Pair::Elliptic(pair) => pair.sign(&self.random, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature).map(|()| signature)
            }
        };
        signed.map_err(|_| KeyError::Signing)
    }
}

/// The keys in PEM that tokens are verified with: public ones, those of private ones, and those of certificates.
///
/// # Errors
/// When there is none.
pub fn public_keys(pem: &str) -> Result<Vec<PublicKey>, KeyError> {
    let key = |item: Item| match item {
        Item::SubjectPublicKeyInfo(der) => PublicKey::from_spki(&der),
        Item::X509Certificate(der) => {
            let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
            PublicKey::from_spki(certificate.tbs_certificate.subject_pki.raw)
        }
        other => Some(SigningKey::from_pkcs8(&private_key::pkcs8(other)?).ok()?.public),
    };
    let keys: Vec<PublicKey> = rustls_pemfile::read_all(&mut pem.as_bytes()).filter_map(|item| key(item.ok()?)).collect();
    if keys.is_empty() { Err(KeyError::NoPublicKey) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha512};

    use super::*;
    use crate::certificates::p521;

    const RSA: &str = include_str!("../../certificates/testdata/rsa-pkcs1.key");
    const P256: &str = include_str!("../../certificates/testdata/p256-sec1.key");
    /// The public key of the first, as `openssl rsa -pubout` tells it.
    const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA6W99fwwePYaNpZ7ihUyN\n\
        zrTcUq39Bg5PA6Mz0wO8J+KbOvd2h56EH96fBjf/DZ90TzTPqOVE5jP3QwsR7/j/\n\
        wuFISsFmwEhJHGVKq3thBLMfAGralUZTdhH6JreaG3+HMS0a3bYbGZ8IoHrXvxfq\n\
        RHUnuA45qhlU5uYpFE0kQaynKkPNKIT0ReQIcJX1H20ZGLtUbP/E6MfR25DlrRmW\n\
        H4mZMgVh361js+UrfNo/EB5sC60IFa/LKoaSUDppLVUlUX1uFZmX5AGQYAMaxnkW\n\
        +sLELJ59BomKrBgS2r7fgYxL6/hJJUIcAA8XyOwi9S6kghLROf6nNueDqjbalHZj\n\
        jwIDAQAB\n-----END PUBLIC KEY-----\n";

    #[test]
    fn keys_of_other_makes_sign_and_have_the_ids_that_openssl_computes() {
        for (pem, id, algorithm, kind) in [
            (RSA, "rgqlwE_YWE7_QCiDNEuARLQyJWDezAi9kdNCFiIfFkE", "RS256", "RSA"),
            (P256, "rtmJCfFbgH3XVeo6Bkzv5hCXLayJRD0XOAEh-si70SY", "ES256", "EC"),
        ] {
            let key = SigningKey::from_pem(pem).expect("reads");
            assert_eq!((key.public().id(), key.public().algorithm()), (id, algorithm));
            assert_eq!((&key.public().jwk()["kty"], &key.public().jwk()["alg"]), (&json!(kind), &json!(algorithm)));
            let token = key.sign(&json!({"iss": "x"})).expect("signs");
            let (message, signature) = token.rsplit_once('.').expect("three parts");
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64");
            assert!(key.public().verifies(message.as_bytes(), &signature) && !key.public().verifies(b"other", &signature));
        }
    }

    #[test]
    fn keys_that_verify_are_read_from_public_and_private_ones() {
        let key = SigningKey::from_pem(RSA).expect("reads").public().clone();
        assert_eq!(public_keys(RSA_PUBLIC), Ok(vec![key.clone()]));
        assert_eq!(public_keys(&format!("{P256}{RSA_PUBLIC}")).expect("two").len(), 2);
        let jwk = key.jwk();
        assert!(jwk["n"].as_str().is_some_and(|modulus| modulus.starts_with("6W99fwwePYaNpZ7ihUyN")), "{jwk}");
        assert_eq!(jwk["e"], "AQAB");
    }

    #[test]
    fn larger_curves_sign_and_verify() {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        let key = SigningKey::from_pkcs8(pkcs8.as_ref()).expect("reads");
        let token = key.sign(&json!({"iss": "x"})).expect("signs");
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64");
        assert!(key.public().verifies(message.as_bytes(), &signature) && !key.public().verifies(b"other", &signature));
        let jwk = key.public().jwk();
        assert_eq!((&jwk["crv"], &jwk["alg"], jwk["x"].as_str().map(str::len)), (&json!("P-384"), &json!("ES384"), Some(64)));
        let largest = p521::PrivateKey::generate().expect("a key");
        let public = PublicKey::from_spki(&largest.public_key_info()).expect("reads");
        let jwk = public.jwk();
        assert_eq!((&jwk["crv"], &jwk["alg"], jwk["y"].as_str().map(str::len)), (&json!("P-521"), &json!("ES512"), Some(88)));
        let signature = p521::fixed(&largest.sign(&Sha512::digest(b"message")).expect("signs"));
        assert!(public.verifies(b"message", &signature) && !public.verifies(b"other", &signature));
        assert!(matches!(SigningKey::from_pkcs8(&largest.pkcs8()).err(), Some(KeyError::Unusable(..))));
    }

    #[test]
    fn the_key_of_a_certificate_verifies() {
        let keys = public_keys(include_str!("../../certificates/testdata/rsa.crt")).expect("one");
        assert_eq!(keys.iter().map(PublicKey::algorithm).collect::<Vec<_>>(), ["RS256"]);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(SigningKey::from_pem("").err(), Some(KeyError::NoKey));
        assert_eq!(SigningKey::from_pem(RSA_PUBLIC).err(), Some(KeyError::NoKey));
        assert_eq!(public_keys("no PEM"), Err(KeyError::NoPublicKey));
        assert!(matches!(SigningKey::from_pkcs8(b"odd").err(), Some(KeyError::Unusable(..))));
    }
}

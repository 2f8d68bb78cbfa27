//! Private keys of authorities and of who signs tokens, in whichever form they lie there: PKCS#8, PKCS#1 (`BEGIN RSA PRIVATE KEY`, as kubeadm writes them) or SEC 1
//! (`BEGIN EC PRIVATE KEY`).

use rcgen::KeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls_pemfile::Item;
use yasna::{ASN1Result, DERWriterSeq, Tag, models::ObjectIdentifier};

/// `rsaEncryption` and `id-ecPublicKey`.
const RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
const EC: &[u64] = &[1, 2, 840, 10_045, 2, 1];

/// Reads the first key in PEM.
///
/// # Errors
/// When there is none, or none that can sign.
pub fn key_pair(pem: &str) -> Result<KeyPair, rcgen::Error> {
    let Some(der) = pkcs8_of_pem(pem) else { return KeyPair::from_pem(pem) };
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(der))
}

/// The first private key in PEM, in PKCS#8.
pub fn pkcs8_of_pem(pem: &str) -> Option<Vec<u8>> {
    rustls_pemfile::read_all(&mut pem.as_bytes()).find_map(|item| pkcs8(item.ok()?))
}

/// A key in PKCS#8; nothing of what is no private key.
pub fn pkcs8(item: Item) -> Option<Vec<u8>> {
    match item {
        Item::Pkcs8Key(key) => Some(key.secret_pkcs8_der().to_vec()),
        Item::Pkcs1Key(key) => Some(wrapped(key.secret_pkcs1_der(), |algorithm| {
            algorithm.next().write_oid(&ObjectIdentifier::from_slice(RSA));
            algorithm.next().write_null();
        })),
        Item::Sec1Key(key) => {
            let curve = curve(key.secret_sec1_der()).ok()?;
            Some(wrapped(key.secret_sec1_der(), |algorithm| {
                algorithm.next().write_oid(&ObjectIdentifier::from_slice(EC));
                algorithm.next().write_oid(&curve);
            }))
        }
        _ => None,
    }
}

/// A key of another form within PKCS#8.
fn wrapped(key: &[u8], algorithm: impl FnOnce(&mut DERWriterSeq<'_>)) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            writer.next().write_sequence(algorithm);
            writer.next().write_bytes(key);
        });
    })
}

/// The curve that a key in SEC 1 names.
fn curve(der: &[u8]) -> ASN1Result<ObjectIdentifier> {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            reader.next().read_u8()?;
            reader.next().read_bytes()?;
            let curve = reader.next().read_tagged(Tag::context(0), |reader| reader.read_oid())?;
            reader.read_optional(|reader| reader.read_tagged_der())?;
            Ok(curve)
        })
    })
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;

    #[test]
    fn keys_of_each_form_are_read() {
        let rsa = key_pair(include_str!("testdata/rsa-pkcs1.key")).expect("reads");
        assert!(rsa.is_compatible(&rcgen::PKCS_RSA_SHA256));
        let ec = key_pair(include_str!("testdata/p256-sec1.key")).expect("reads");
        assert!(ec.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256));
        let own = key_pair(&ec.serialize_pem()).expect("reads");
        assert_eq!(own.der_bytes(), ec.der_bytes());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "no PEM", include_str!("testdata/rsa.crt"), "-----BEGIN EC PRIVATE KEY-----\nMAMCAQE=\n-----END EC PRIVATE KEY-----\n"] {
            assert!(key_pair(text).is_err(), "{text}");
        }
    }
}

//! What certificates and requests are written in: algorithms in DER, and PEM.

use rcgen::{KeyPair, PublicKeyData};
use x509_parser::pem::Pem;
use yasna::models::ObjectIdentifier;

/// The algorithm that the key signs with.
pub fn algorithm(key: &KeyPair) -> Option<Vec<u8>> {
    let known: [(&rcgen::SignatureAlgorithm, &[u64], bool); 4] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &[1, 2, 840, 10_045, 4, 3, 2], false),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &[1, 2, 840, 10_045, 4, 3, 3], false),
        (&rcgen::PKCS_ED25519, &[1, 3, 101, 112], false),
        (&rcgen::PKCS_RSA_SHA256, &[1, 2, 840, 113_549, 1, 1, 11], true),
    ];
    let (_, oid, with_null) = known.into_iter().find(|(algorithm, _, _)| PublicKeyData::algorithm(key) == *algorithm)?;
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
            if with_null {
                writer.next().write_null();
            }
        });
    }))
}

/// DER as PEM.
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let encoded = BASE64_STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The certificates of a chain in PEM, without what stands between and in their heads. It ends before what is no PEM.
pub fn cleaned_chain(chain: &str) -> String {
    Pem::iter_from_buffer(chain.as_bytes()).map_while(Result::ok).map(|block| pem("CERTIFICATE", &block.contents)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_left_without_what_stands_beside_it() {
        let one = pem("CERTIFICATE", &[1; 100]);
        let other = pem("CERTIFICATE", b"other");
        assert_eq!(cleaned_chain(&format!("first\n{one}then\n{other}at last\n")), format!("{one}{other}"));
        assert_eq!(cleaned_chain(&one.replace("CERTIFICATE", "X")), one);
        assert_eq!(cleaned_chain("nothing"), "");
    }
}

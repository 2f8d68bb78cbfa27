//! Hashes of CAs' public keys, in kubeadm's form. Pure.

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// `sha256:HEX` of the public key (SubjectPublicKeyInfo) of the first certificate.
pub fn ca_hash(ca_pem: &str) -> Result<String> {
    let key = troupe_api::auth::x509::public_key_of_pem(ca_pem.as_bytes()).context("the CA's certificate cannot be read")?;
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(key))))
}

/// Checks that the CA is one of those that were named; naming none accepts it.
pub fn check(ca_pem: &str, allowed: &[String]) -> Result<()> {
    if let Some(odd) = allowed.iter().find(|hash| !is_hash(hash)) {
        bail!("{odd:?} is no hash of a CA: it must read sha256:HEX");
    }
    let found = ca_hash(ca_pem)?;
    if allowed.is_empty() || allowed.iter().any(|hash| hash.eq_ignore_ascii_case(&found)) {
        return Ok(());
    }
    bail!("the cluster's CA has the hash {found}, which is none of those given: it is another cluster, or somebody in between")
}

fn is_hash(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use troupe_api::auth::pki::Pki;

    use super::*;

    #[test]
    fn only_the_named_ca_is_accepted() {
        let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let (one, other) = (Pki::open(one.path()).expect("a CA"), Pki::open(other.path()).expect("a CA"));
        let hash = ca_hash(one.ca_pem()).expect("a hash");
        assert!(is_hash(&hash));
        check(one.ca_pem(), std::slice::from_ref(&hash)).expect("is accepted");
        check(one.ca_pem(), &[]).expect("is accepted");
        let error = check(other.ca_pem(), &[hash]).expect_err("is refused");
        assert!(error.to_string().contains("another cluster"), "{error}");
        assert!(check(one.ca_pem(), &["md5:00".into()]).is_err());
    }
}

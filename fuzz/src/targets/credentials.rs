//! What strangers show: tokens, certificates, requests for certificates.

use std::sync::{Arc, LazyLock};

use troupe_api::{
    auth::{
        tokens::{PublicKey, Verifier},
        x509,
    },
    certificates::{SigningRequest, pem, pem_blocks},
    meta::{GroupResource, ObjectKey, SystemClock},
    service::Listers,
    stored::StoredObject,
};

use crate::budget;

/// A cluster without objects.
struct Nothing;

impl Listers for Nothing {
    fn get(&self, _: &GroupResource, _: &ObjectKey) -> Option<Arc<StoredObject>> {
        None
    }

    fn list(&self, _: &GroupResource, _: &str) -> Vec<Arc<StoredObject>> {
        Vec::new()
    }
}

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key = PublicKey::from_spki(include_bytes!("issuer.pub.der")).expect("a key");
    let names = vec![ISSUER.to_owned()];
    Verifier::new(vec![key], names.clone(), names, Arc::new(Nothing), Arc::new(SystemClock))
});

/// Nobody has the private key, so no token is good.
pub fn jwt(data: &[u8]) {
    let Ok(token) = std::str::from_utf8(data) else { return };
    let verifier = &*VERIFIER;
    let verdict = budget::hold(data.len(), || verifier.verify(token, &[]));
    assert!(!matches!(verdict, Ok(Some(_))), "a token that nobody signed is accepted");
}

pub fn csr(data: &[u8]) {
    let request = budget::hold(data.len(), || SigningRequest::from_pem(data));
    if let Ok(request) = request {
        // Whether it is good is for the signature to say; a forged one is an error, not more.
        let _ = budget::hold(data.len(), || request.verify());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = budget::hold(data.len(), || SigningRequest::from_base64(text));
    }
}

pub fn x509(data: &[u8]) {
    let _ = budget::hold(data.len(), || x509::user_of(data));
    let _ = budget::hold(data.len(), || x509::facts_of_pem(data));
    let _ = budget::hold(data.len(), || x509::public_key_of_pem(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    for block in budget::hold(data.len(), || pem_blocks(text)) {
        let written = pem(&block.label, &block.contents);
        assert!(pem_blocks(&written).iter().all(|read| (&read.label, &read.contents) == (&block.label, &block.contents)), "{written}");
    }
}

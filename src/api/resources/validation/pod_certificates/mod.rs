//! Requests for certificates of pods (KEP-4317; `pkg/apis/certificates/validation`): whose they are, a key that whoever asks has, and a verdict
//! with a certificate for that key.

mod status;
#[cfg(test)]
mod tests;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer, x509::SubjectPublicKeyInfo};

pub use self::status::{state, status, timing};
use super::{Field, certificates};
use crate::{
    certificates::possession::{self, KeyKind},
    meta::{Object, names},
    status::{FieldError, FieldErrorKind},
};

/// Seconds that a certificate is valid at least.
pub const SHORTEST: i64 = 3600;
/// 91 days; for the cluster's own signers one.
const LONGEST: i64 = 7_862_400;
const LONGEST_OF_CLUSTER: i64 = 86_400;
const LONGEST_UID: usize = 128;
/// Bytes of keys, proofs and requests.
const LARGEST: usize = 10 * 1024;
/// Bytes of annotations, keys and values together.
const LARGEST_ANNOTATIONS: usize = 256 * 1024;
const UNKNOWN_KEY: &str = "unknown public key type; supported types are Ed25519, ECDSA, and RSA";

/// How many seconds a signer's certificates are valid at most.
pub fn longest(signer: &str) -> i64 {
    let domain = signer.split('/').next().unwrap_or_default();
    if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") { LONGEST_OF_CLUSTER } else { LONGEST }
}

/// What a pod's user tells the signer: keys with a domain each.
pub fn user_annotations(errors: &mut Vec<FieldError>, annotations: &Field<'_>) {
    let mut size = 0;
    for (key, value) in annotations.entries() {
        size += key.len() + value.text().len();
        let key = key.to_lowercase();
        if key.is_empty() {
            errors.push(annotations.required(""));
            continue;
        }
        let faults = names::qualified(&key);
        if faults.is_empty() && !key.contains('/') {
            errors.push(annotations.invalid_as(key.as_str(), "must be a domain-prefixed key (such as \"acme.io/foo\")"));
        }
        errors.extend(faults.into_iter().map(|fault| annotations.invalid_as(key.as_str(), fault)));
    }
    if size > LARGEST_ANNOTATIONS {
        errors.push(annotations.too_long(LARGEST_ANNOTATIONS));
    }
}

/// What a new request has wrong.
pub fn create(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = spec(object);
    let signer = spec.child("signerName");
    certificates::signer_name(&mut errors, &signer.to_string(), signer.text());
    user_annotations(&mut errors, &spec.child("unverifiedUserAnnotations"));
    for (name, uid) in [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")] {
        let (name, uid) = (spec.child(name), spec.child(uid));
        name.judge(&mut errors, names::subdomain(name.text(), false));
        if uid.text().is_empty() {
            errors.push(uid.invalid_as("", "must not be empty"));
        }
        if uid.text().len() > LONGEST_UID {
            errors.push(uid.too_long(LONGEST_UID));
        }
    }
    let seconds = spec.child("maxExpirationSeconds");
    let Some(number) = seconds.number() else {
        errors.push(seconds.required("must be set"));
        return errors;
    };
    let most = longest(signer.text());
    if !(SHORTEST..=most).contains(&number) {
        errors.push(seconds.invalid(format!("must be in the range [{SHORTEST}, {most}]")));
    }
    let [request, key, proof] = ["stubPKCS10Request", "pkixPublicKey", "proofOfPossession"].map(|name| bytes(&spec, name));
    match (request.is_empty(), key.is_empty(), proof.is_empty()) {
        (false, true, true) => stub_request(&mut errors, &spec.child("stubPKCS10Request"), &request),
        (true, false, false) => public_key(&mut errors, &spec, &key, &proof),
        _ => {
            let why = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            errors.push(bare(&spec, why));
        }
    }
    errors
}

/// What an update beside the status has wrong.
pub fn update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    spec(new).check_unchanged(&mut errors, spec(old).value);
    errors
}

fn spec(object: &Object) -> Field<'_> {
    Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null))
}

/// The bytes of a field; the schema has refused what is no base64.
fn bytes(spec: &Field<'_>, name: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(spec.child(name).text()).unwrap_or_default()
}

/// An error that shows no value.
fn bare(field: &Field<'_>, detail: &str) -> FieldError {
    FieldError { kind: FieldErrorKind::Invalid, field: field.to_string(), value: None, detail: detail.to_owned() }
}

fn stub_request(errors: &mut Vec<FieldError>, field: &Field<'_>, der: &[u8]) {
    if der.len() > LARGEST {
        return errors.push(field.too_long(LARGEST));
    }
    let parsed = X509CertificationRequest::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, request)| request);
    let Some((request, kind)) = parsed.and_then(|request| KeyKind::of(&request.certification_request_info.subject_pki).map(|kind| (request, kind)))
    else {
        return errors.push(bare(field, "must be a valid PKCS#10 CSR"));
    };
    if kind == KeyKind::Other {
        errors.push(bare(field, UNKNOWN_KEY));
    } else if let Some((shown, why)) = weak(kind, "elliptic public keys must use curve P256, P384, or P521") {
        errors.push(field.invalid_as(shown, why));
    } else if !possession::verify(&request) {
        errors.push(bare(field, "invalid signature"));
    }
}

/// The older form: a bare key, and a signature of the pod's uid.
fn public_key(errors: &mut Vec<FieldError>, spec: &Field<'_>, der: &[u8], proof: &[u8]) {
    let (field, proof_field) = (spec.child("pkixPublicKey"), spec.child("proofOfPossession"));
    if der.len() > LARGEST {
        return errors.push(field.too_long(LARGEST));
    }
    if proof.len() > LARGEST {
        return errors.push(proof_field.too_long(LARGEST));
    }
    let parsed = SubjectPublicKeyInfo::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, key)| key);
    let Some((key, kind)) = parsed.and_then(|key| KeyKind::of(&key).map(|kind| (key, kind))) else {
        return errors.push(field.invalid("must be a valid PKIX-serialized public key"));
    };
    if kind == KeyKind::Other {
        errors.push(field.invalid(UNKNOWN_KEY));
    } else if let Some((shown, why)) = weak(kind, "elliptic public keys must use curve P256 or P384") {
        errors.push(field.invalid_as(shown, why));
    } else if !possession::signed(&key, spec.child("podUID").text().as_bytes(), proof) {
        errors.push(bare(&proof_field, "could not verify proof-of-possession signature"));
    }
}

/// What of a key is not enough, as errors show it, and why.
fn weak(kind: KeyKind, of_curves: &'static str) -> Option<(String, &'static str)> {
    match kind {
        KeyKind::Elliptic(curve) if !["P-256", "P-384", "P-521"].contains(&curve) => Some((format!("curve {curve}"), of_curves)),
        KeyKind::Rsa { bits } if ![3072, 4096].contains(&bits) => {
            Some((format!("{bits}-bit modulus"), "RSA keys must have modulus size 3072 or 4096"))
        }
        _ => None,
    }
}

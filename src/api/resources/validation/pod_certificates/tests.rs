use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde_json::json;

use super::*;
use crate::{certificates::ProvenKey, meta::time::format_time};

const NOW: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn after(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

fn said(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn pair(key: &ProvenKey) -> KeyPair {
    crate::certificates::private_key::key_pair(&key.key_pem).expect("a key")
}

fn asking(key: &ProvenKey) -> Object {
    let object = json!({"metadata": {"name": "r", "namespace": "n"}, "spec": {
        "signerName": "example.com/signer", "podName": "p", "podUID": "pod-uid", "serviceAccountName": "default", "serviceAccountUID": "a",
        "nodeName": "one", "nodeUID": "o", "maxExpirationSeconds": 7200, "stubPKCS10Request": BASE64_STANDARD.encode(&key.request)}});
    Object::from_value(object).expect("an object")
}

fn request() -> (ProvenKey, Object) {
    let key = ProvenKey::generate("ED25519").expect("a key");
    let object = asking(&key);
    (key, object)
}

fn with(object: &Object, changes: &[(&str, Value)]) -> Object {
    let mut changed = object.clone();
    changes.iter().for_each(|(field, value)| changed.set(&["spec", *field], value.clone()));
    changed
}

#[test]
fn a_request_tells_whose_it_is_and_for_how_long() {
    let (_, good) = request();
    assert_eq!(said(&create(&good)), Vec::<String>::new());
    let wrong = with(
        &good,
        &[
            ("signerName", json!("kubernetes.io/signer")),
            ("podName", json!("P")),
            ("podUID", json!("")),
            ("nodeUID", json!("u".repeat(129))),
            ("maxExpirationSeconds", json!(86_401)),
            ("unverifiedUserAnnotations", json!({"Example.com/a": "b", "plain": "c"})),
        ],
    );
    let errors = said(&create(&wrong));
    assert!(errors[1].starts_with("spec.podName: Invalid value: \"P\": a lowercase RFC 1123 subdomain"), "{errors:?}");
    let rest: Vec<&String> = errors.iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, error)| error).collect();
    assert_eq!(
        rest,
        [
            "spec.unverifiedUserAnnotations: Invalid value: \"plain\": must be a domain-prefixed key (such as \"acme.io/foo\")",
            "spec.podUID: Invalid value: \"\": must not be empty",
            "spec.nodeUID: Too long: may not be more than 128 bytes",
            "spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]",
        ]
    );
    let endless = with(&good, &[("maxExpirationSeconds", json!(null))]);
    assert_eq!(said(&create(&endless)), ["spec.maxExpirationSeconds: Required value: must be set"]);
    let changed = with(&good, &[("podName", json!("other"))]);
    let errors = said(&update(&changed, &good));
    assert!(errors.len() == 1 && errors[0].ends_with("field is immutable"), "{errors:?}");
    assert_eq!(said(&update(&good, &good)), Vec::<String>::new());
}

#[test]
fn whoever_asks_has_the_key() {
    let (key, good) = request();
    let stub = |der: &[u8]| said(&create(&with(&good, &[("stubPKCS10Request", json!(BASE64_STANDARD.encode(der)))])));
    assert_eq!(stub(b"none"), ["spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR"]);
    let mut forged = key.request.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(stub(&forged), ["spec.stubPKCS10Request: Invalid value: invalid signature"]);
    assert_eq!(stub(&[0; 10_241]), ["spec.stubPKCS10Request: Too long: may not be more than 10240 bytes"]);
    for kind in ["ECDSAP256", "ECDSAP384", "ECDSAP521"] {
        assert_eq!(stub(&ProvenKey::generate(kind).expect("a key").request), Vec::<String>::new(), "{kind}");
    }
    let both = "spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
    assert_eq!(said(&create(&with(&good, &[("pkixPublicKey", json!("eA=="))]))), [both]);
    assert_eq!(stub(b""), [both]);
}

#[test]
fn the_older_proof_is_a_signature_of_the_pods_uid() {
    let (_, good) = request();
    let proven = |key: &[u8], proof: &[u8]| {
        let [key, proof] = [key, proof].map(|bytes| json!(BASE64_STANDARD.encode(bytes)));
        said(&create(&with(&good, &[("stubPKCS10Request", json!(null)), ("pkixPublicKey", key), ("proofOfPossession", proof)])))
    };
    let rsa = include_bytes!("../../../certificates/testdata/rsa-3072.pub.der");
    assert_eq!(proven(rsa, include_bytes!("../../../certificates/testdata/rsa-pss.sig")), Vec::<String>::new());
    let curve = include_bytes!("../../../certificates/testdata/p521.pub.der");
    assert_eq!(proven(curve, include_bytes!("../../../certificates/testdata/p521.sig")), Vec::<String>::new());
    assert_eq!(proven(curve, b"another"), ["spec.proofOfPossession: Invalid value: could not verify proof-of-possession signature"]);
    assert_eq!(proven(b"none", b"x"), ["spec.pkixPublicKey: Invalid value: \"bm9uZQ==\": must be a valid PKIX-serialized public key"]);
}

/// A chain of one certificate for the key that is valid so many minutes from now.
fn chain(key: &KeyPair, name: &str, minutes: i64) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "pod");
    params.subject_alt_names.push(SanType::DnsName(name.try_into().expect("text")));
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = params.not_before + std::time::Duration::from_secs(60 * minutes.unsigned_abs());
    params.self_signed(key).expect("a certificate").pem()
}

fn verdict(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": NOW})
}

fn told(object: &Object, status: Value) -> Object {
    let mut told = object.clone();
    told.set(&["status"], status);
    told
}

fn issued_with(object: &Object, chain: &str, refresh: i64, ends: i64) -> Object {
    let [refresh, ends] = [refresh, ends].map(|minutes| format_time(after(minutes)));
    let conditions = [verdict("Issued")];
    let status = json!({"conditions": conditions, "certificateChain": chain, "notBefore": NOW, "beginRefreshAt": refresh, "notAfter": ends});
    told(object, status)
}

#[test]
fn a_certificate_is_for_the_key_and_is_told_as_it_is() {
    let (key, old) = request();
    let key = pair(&key);
    let good = chain(&key, "a.example", 120);
    let of = |chain: &str, refresh: i64, ends: i64| said(&status(&issued_with(&old, chain, refresh, ends), &old));
    assert_eq!(of(&good, 60, 120), Vec::<String>::new());
    assert_eq!(of(&format!("before\n{good}{good}"), 10, 120), Vec::<String>::new());
    let ends = |errors: Vec<String>, wanted: &str| assert!(errors.len() == 1 && errors[0].ends_with(wanted), "{errors:?}");
    ends(of("", 60, 120), "issued certificate chain must contain at least one certificate");
    ends(of(&chain(&KeyPair::generate().expect("a key"), "a", 120), 60, 120), "leaf certificate was not issued to the requested public key");
    ends(of(&good, 60, 119), "must be set to the NotAfter time encoded in the leaf certificate");
    ends(of(&good, 9, 120), "must be at least 10 minutes after status.notBefore");
    ends(of(&good, 111, 120), "must be at least 10 minutes before status.notAfter");
    ends(of(&chain(&key, "a", 59), 30, 59), "leaf certificate lifetime must be >= 1 hour");
    ends(of(&chain(&key, "a", 121), 30, 121), "leaf certificate lifetime must be <= spec.maxExpirationSeconds (7200)");
    ends(of(&chain(&key, ".a", 120), 30, 120), "leaf certificate's DNSName should not start or end with '.'");
    ends(of(&good.replace("CERTIFICATE", "PRIVATE KEY"), 60, 120), "issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
    let garbage = "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n";
    ends(of(garbage, 60, 120), "leaf certificate does not parse as valid X.509");
    ends(of(&format!("{good}{garbage}"), 60, 120), "intermediate certificate does not parse as valid X.509");
    let timeless = told(&old, json!({"conditions": [verdict("Issued")], "certificateChain": good}));
    assert_eq!(said(&status(&timeless, &old)).len(), 3);
}

#[test]
fn a_certificate_begins_when_it_is_issued() {
    let (key, old) = request();
    let new = issued_with(&old, &chain(&pair(&key), "a", 120), 60, 120);
    let late = |minutes: i64| timing(&new, &old, after(minutes)).map(|error| error.to_string());
    assert_eq!((late(0), late(4), late(-4)), (None, None, None));
    let why = format!("status.notBefore: Invalid value: \"{NOW}\": must be set to within 5 minutes of kube-apiserver's current time");
    assert_eq!((late(5), late(-6)), (Some(why.clone()), Some(why)));
    assert_eq!(timing(&new, &new, after(60)), None, "it was issued before");
}

#[test]
fn a_verdict_is_one_of_three_and_stays() {
    let (key, old) = request();
    let denied = told(&old, json!({"conditions": [verdict("Denied")]}));
    assert_eq!(said(&status(&denied, &old)), Vec::<String>::new());
    assert_eq!((state(&old), state(&denied)), ("Pending", "Denied"));
    let issued = issued_with(&old, &chain(&pair(&key), "a", 120), 60, 120);
    let stays = ["status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"];
    assert_eq!(said(&status(&issued, &denied)), stays);
    assert_eq!(said(&status(&told(&old, json!({})), &denied)), stays);
    assert_eq!(said(&status(&denied, &denied)), Vec::<String>::new());
    let bearing = told(&old, json!({"conditions": [verdict("Failed")], "certificateChain": "x"}));
    let bare = "status: Invalid value: non-condition status fields must be empty when denying or failing the PodCertificateRequest";
    assert_eq!(said(&status(&bearing, &old)), [bare]);
    let early = told(&old, json!({"certificateChain": "x"}));
    let nothing = "status: Invalid value: status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
    assert_eq!(said(&status(&early, &old)), [nothing]);
    let mut doubtful = verdict("Failed");
    doubtful["status"] = json!("False");
    let odd = told(&old, json!({"conditions": [verdict("Denied"), doubtful, verdict("Odd")]}));
    let one = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
    assert_eq!(
        said(&status(&odd, &old)),
        [
            format!("status.conditions.[1].type: Invalid value: \"Failed\": {one}"),
            "status.conditions.[1].status: Unsupported value: \"False\": supported values: \"True\"".to_owned(),
            "status.conditions.[2].type: Unsupported value: \"Odd\": supported values: \"Issued\", \"Denied\", \"Failed\"".to_owned(),
        ]
    );
}

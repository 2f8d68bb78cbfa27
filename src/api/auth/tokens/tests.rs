use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::Value;

use super::*;
use crate::{
    Status,
    auth::{Authenticator, Credentials, identify, rbac::tests::FixedListers, x509::CREDENTIAL_ID},
    meta::{Clock, GroupResource, Object, ObjectKey},
    notices::Notices,
};

const START: i64 = 1_800_000_000;

/// A clock that stands still, some seconds after the start.
#[derive(Debug)]
struct At(i64);

impl Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(START + self.0).expect("in range")
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

fn issuer() -> Issuer {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    Issuer::new(SigningKey::from_pkcs8(pkcs8.as_ref()).expect("reads"))
}

fn core(resource: &str) -> GroupResource {
    GroupResource::new("", resource)
}

fn cluster() -> FixedListers {
    let mut listers = FixedListers::default();
    let object = |kind: &str, metadata: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
    listers.add(&core("serviceaccounts"), object("ServiceAccount", json!({"name": "bot", "namespace": "ns", "uid": "sa-1"})));
    listers.add(&core("secrets"), object("Secret", json!({"name": "s", "namespace": "ns", "uid": "secret-1"})));
    listers.add(&core("nodes"), object("Node", json!({"name": "n1", "uid": "node-1"})));
    let mut pod = object("Pod", json!({"name": "p", "namespace": "ns", "uid": "pod-1"}));
    pod["spec"] = json!({"serviceAccountName": "bot", "nodeName": "n1"});
    listers.add(&core("pods"), pod);
    listers
}

fn request(issuer: &Issuer, spec: Value) -> Result<Object, Status> {
    let body = Object::from_value(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})).expect("an object");
    token_request(issuer, &cluster(), &ObjectKey::new("ns", "bot"), &body, At(0).now(), &Notices::default())
}

fn token(issuer: &Issuer, spec: Value) -> String {
    request(issuer, spec).expect("issues").str(&["status", "token"]).to_owned()
}

fn verifier(issuer: &Issuer, listers: FixedListers, after: i64) -> Verifier {
    let names = vec![ISSUER.to_owned()];
    Verifier::new(vec![issuer.public_key().clone()], names.clone(), names, Arc::new(listers), Arc::new(At(after)))
}

fn pod_bound() -> Value {
    json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "pod-1"}})
}

#[test]
fn a_pod_bound_token_tells_who_and_where() {
    let issuer = issuer();
    let token = token(&issuer, pod_bound());
    let credentials = Credentials { bearer: Some(&token), ..Credentials::default() };
    let user = verifier(&issuer, cluster(), 10).authenticate(&credentials).expect("holds").expect("is ours");
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:ns:bot", "sa-1"));
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns"]);
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
    assert!(user.extra[CREDENTIAL_ID][0].starts_with("JTI="));
}

#[test]
fn the_audit_log_tells_which_credential_was_issued_as_it_tells_of_its_use() {
    let (issuer, notices) = (issuer(), Notices::default());
    let (key, now) = (ObjectKey::new("ns", "bot"), At(0).now());
    let reply = token_request(&issuer, &cluster(), &key, &Object::default(), now, &notices).expect("issues");
    let credentials = Credentials { bearer: Some(reply.str(&["status", "token"])), ..Credentials::default() };
    let user = verifier(&issuer, cluster(), 10).authenticate(&credentials).expect("holds").expect("is ours");
    let issued = notices.annotations().remove("authentication.kubernetes.io/issued-credential-id");
    assert_eq!(issued.as_ref(), user.extra[CREDENTIAL_ID].first());
    let refused = Notices::default();
    let short = Object::from_value(json!({"spec": {"expirationSeconds": 1}})).expect("an object");
    token_request(&issuer, &cluster(), &key, &short, now, &refused).expect_err("too short");
    assert!(refused.annotations().is_empty());
}

#[test]
fn the_reply_is_the_request_filled_in() {
    let reply = request(&issuer(), json!({"audiences": ["x"], "expirationSeconds": 700})).expect("issues");
    assert_eq!((reply.name(), reply.namespace()), ("bot", "ns"));
    assert_eq!(reply.get(&["spec", "audiences"]), Some(&json!(["x"])));
    let expiry = crate::meta::time::parse_time(reply.str(&["status", "expirationTimestamp"])).expect("a time");
    assert_eq!(expiry.as_second(), START + 700);
    let defaults = request(&issuer(), json!({})).expect("issues");
    assert_eq!(defaults.int(&["spec", "expirationSeconds"]), Some(3600));
    assert_eq!(defaults.get(&["spec", "audiences"]), Some(&json!([ISSUER])));
}

#[test]
fn no_token_lasts_longer_than_is_said() {
    let issuer = issuer().lasting_at_most(Some(3600));
    let asking = |seconds: i64| request(&issuer, json!({"expirationSeconds": seconds})).expect("issues");
    let long = asking(7200);
    assert_eq!(long.int(&["spec", "expirationSeconds"]), Some(3600));
    let expiry = crate::meta::time::parse_time(long.str(&["status", "expirationTimestamp"])).expect("a time");
    assert_eq!(expiry.as_second(), START + 3600);
    assert_eq!(asking(700).int(&["spec", "expirationSeconds"]), Some(700));
    let asked = |seconds: i64| Object::from_value(json!({"spec": {"expirationSeconds": seconds}})).expect("an object");
    let told = shortened(&issuer, &asked(7200));
    assert_eq!(told.as_deref(), Some("requested expiration of 7200 seconds shortened to 3600 seconds"));
    assert_eq!(shortened(&issuer, &asked(3600)), None);
}

#[test]
fn bad_requests_are_refused_as_upstream_refuses_them() {
    let issuer = issuer();
    let short = request(&issuer, json!({"expirationSeconds": 599})).expect_err("too short");
    let want = "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes";
    assert_eq!((short.code, short.message.as_str()), (422, want));
    let bound =
        |kind: &str, name: &str, uid: &str| request(&issuer, json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}}));
    assert_eq!(bound("Pod", "gone", "").expect_err("no such pod").code, 404);
    assert_eq!(bound("Pod", "p", "other").expect_err("another pod").code, 409);
    assert_eq!(bound("ConfigMap", "c", "").expect_err("no such kind").message, "cannot bind token to object of type /v1, Kind=ConfigMap");
    let empty = FixedListers::default();
    let status =
        token_request(&issuer, &empty, &ObjectKey::new("ns", "bot"), &Object::default(), At(0).now(), &Notices::default()).expect_err("no account");
    assert_eq!(status.message, "serviceaccounts \"bot\" not found");
}

#[test]
fn tokens_end_with_their_time_and_with_what_they_are_bound_to() {
    let issuer = issuer();
    let token = token(&issuer, pod_bound());
    let refusal = |listers: FixedListers, after: i64| verifier(&issuer, listers, after).verify(&token, &[]).expect_err("refused");
    assert_eq!(refusal(cluster(), 3600 + 61), "service account token has expired");
    assert_eq!(refusal(cluster(), -61), "service account token is not valid yet");
    let mut without_pod = cluster();
    without_pod.remove(&core("pods"), &ObjectKey::new("ns", "p"));
    assert_eq!(refusal(without_pod, 0), "service account token has been invalidated");
    let mut recreated = cluster();
    recreated.add(
        &core("serviceaccounts"),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "ns", "uid": "sa-2"}}),
    );
    assert_eq!(refusal(recreated, 0), "service account UID (sa-2) does not match claim (sa-1)");
    let deleted = Timestamp::from_second(START).expect("in range").to_string();
    let mut dying = cluster();
    dying.add(
        &core("pods"),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns", "uid": "pod-1", "deletionTimestamp": deleted}}),
    );
    assert_eq!(refusal(dying, 120), "service account token has been invalidated");
}

#[test]
fn audiences_must_meet() {
    let issuer = issuer();
    let token = token(&issuer, json!({"audiences": ["vault", "other"]}));
    let verifier = verifier(&issuer, cluster(), 0);
    assert!(verifier.verify(&token, &[]).expect_err("not for us").starts_with("token audiences"));
    let owner = verifier.verify(&token, &["vault".into(), "unknown".into()]).expect("holds").expect("is ours");
    assert_eq!(owner.audiences, ["vault"]);
}

#[test]
fn forged_and_foreign_tokens_get_nowhere() {
    let ours = issuer();
    let verifier = verifier(&ours, cluster(), 0);
    let forged = token(&issuer(), json!({}));
    assert_eq!(verifier.verify(&forged, &[]), Err("invalid signature".into()));
    let good = token(&ours, json!({}));
    let (head, rest) = good.split_once('.').expect("three parts");
    let (payload, signature) = rest.split_once('.').expect("three parts");
    let claims = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("text");
    let other = BASE64_URL_SAFE_NO_PAD.encode(claims.replace("\"bot\"", "\"boss\""));
    assert_eq!(verifier.verify(&format!("{head}.{other}.{signature}"), &[]), Err("invalid signature".into()));
    let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    assert_eq!(verifier.verify(&format!("{none}.{payload}."), &[]), Err("invalid signature".into()));
    for foreign in ["", "abc", "a.b.c", &format!("{head}.e30.{signature}")] {
        assert_eq!(verifier.verify(foreign, &[]), Ok(None), "{foreign}");
    }
}

#[test]
fn tokens_of_an_earlier_name_and_of_another_servers_key_count() {
    let rsa = || SigningKey::from_pem(include_str!("../../certificates/testdata/rsa-pkcs1.key")).expect("reads");
    let before = Issuer::named(rsa(), "https://old.example", vec!["https://new.example".into()]);
    let token = token(&before, json!({}));
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    let own = || SigningKey::from_pkcs8(pkcs8.as_ref()).expect("reads");
    let now = Issuer::named(own(), "https://new.example", vec!["https://new.example".into()]);
    let verify = |issuer: &Issuer| {
        let verifier = Verifier::new(issuer.public_keys(), issuer.names(), issuer.audiences().to_vec(), Arc::new(cluster()), Arc::new(At(0)));
        verifier.verify(&token, &[]).map(|owner| owner.is_some())
    };
    assert_eq!(verify(&now), Ok(false), "it is somebody else's");
    let names = || vec!["https://old.example".to_owned()];
    let known = Issuer::named(own(), "https://new.example", vec!["https://new.example".into()]).accepting(names(), Vec::new());
    assert_eq!(verify(&known), Err("invalid signature".into()));
    let both = now.accepting(names(), vec![rsa().public().clone(), rsa().public().clone()]);
    assert_eq!((verify(&both), both.public_keys().len()), (Ok(true), 2));
    assert_eq!(openid_configuration("i", "u", &both.public_keys())["id_token_signing_alg_values_supported"], json!(["ES256", "RS256"]));
}

#[test]
fn usual_pod_tokens_live_on_for_programs_that_never_reread_them() {
    let issuer = issuer();
    let mut spec = pod_bound();
    spec["expirationSeconds"] = json!(3607);
    let reply = request(&issuer, spec).expect("issues");
    assert_eq!(reply.int(&["spec", "expirationSeconds"]), Some(3607));
    let token = reply.str(&["status", "token"]);
    let told = |after: i64| {
        let notices = Notices::default();
        let credentials = Credentials { bearer: Some(token), notices: Some(&notices), ..Credentials::default() };
        verifier(&issuer, cluster(), after).authenticate(&credentials).expect("holds").expect("is ours");
        notices.annotations().get("authentication.k8s.io/stale-token").cloned()
    };
    assert_eq!(told(3607), None);
    let stale = "subject: system:serviceaccount:ns:bot, seconds after warning threshold: 3";
    assert_eq!(told(3610).as_deref(), Some(stale), "who never rereads it is told of");
    assert!(told(300 * 24 * 3600).is_some());
}

#[test]
fn the_documents_name_the_key_that_signs() {
    let issuer = issuer();
    let token = token(&issuer, json!({}));
    let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header")).expect("base64");
    let header = serde_json::from_slice::<Value>(&header).expect("JSON");
    let keys = jwks(&[issuer.public_key().clone()]);
    assert_eq!(keys["keys"][0]["kid"], header["kid"]);
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    let document = openid_configuration(ISSUER, "https://10.0.0.1:6443/openid/v1/jwks", &issuer.public_keys());
    assert_eq!(document["jwks_uri"], "https://10.0.0.1:6443/openid/v1/jwks");
    assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
}

#[test]
fn a_good_signature_is_checked_once() {
    let issuer = issuer();
    let token = token(&issuer, json!({}));
    let verifier = verifier(&issuer, cluster(), 0);
    verifier.verify(&token, &[]).expect("holds");
    let begin = Instant::now();
    for _ in 0..1000 {
        verifier.verify(&token, &[]).expect("holds");
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

/// Signs with a key, and shows it when it is asked for keys.
struct OtherProcess {
    key: SigningKey,
    keys: KeySet,
}

impl TokenSigner for OtherProcess {
    fn sign(&self, claims: Value) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(std::future::ready(self.key.sign(&claims).map_err(|error| error.to_string())))
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        self.keys.exchange(vec![TrustedKey { key: self.key.public().clone(), is_hidden: false }]);
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for_and_one_that_is_gone_verifies_nothing() {
    let rsa = SigningKey::from_pem(include_str!("../../certificates/testdata/rsa-pkcs1.key")).expect("reads");
    let keys = KeySet::from(vec![issuer().public_key().clone()]);
    let signer = Arc::new(OtherProcess { key: rsa, keys: keys.clone() });
    let issuer = issuer().signed_elsewhere(signer.clone(), keys.clone(), 7200);
    let mut spec = pod_bound();
    spec["expirationSeconds"] = json!(3607);
    let body = Object::from_value(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})).expect("an object");
    let unsigned = unsigned_token(&issuer, &cluster(), &ObjectKey::new("ns", "bot"), &body, At(0).now(), &Notices::default()).expect("may be signed");
    assert_eq!(unsigned.claims["exp"], json!(START + 7200), "no longer than the signer takes");
    let token = issuer.signer().expect("another").sign(unsigned.claims.clone()).await.expect("signs");
    assert_eq!(unsigned.answer(&token).str(&["status", "token"]), token);
    let names = vec![ISSUER.to_owned()];
    let verifier = Verifier::new(issuer.key_set(), names.clone(), names, Arc::new(cluster()), Arc::new(At(0)));
    let asking = RefreshingVerifier::new(verifier, signer);
    let credentials = Credentials { bearer: Some(&token), ..Credentials::default() };
    assert!(asking.authenticate(&credentials).is_err(), "the key is not known");
    let user = identify(&asking, &credentials).await.expect("is asked for").expect("a user");
    assert_eq!(user.name, "system:serviceaccount:ns:bot");
    assert!(asking.ask(&credentials).is_none(), "it is known by now");
    keys.exchange(Vec::new());
    assert!(asking.authenticate(&credentials).is_err());
}

//! Requests for certificates of pods, from the node that makes them to the signer that answers (KEP-4317).

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use troupe_api::{
    ApiReply, ApiService,
    auth::{
        chain::{AuthorizerChain, PrivilegedGroups},
        node::NodeAuthorizer,
        pki::Pki,
        rbac::Rbac,
        x509::facts_of_pem,
    },
    certificates::{CertificateAuthority, Policy, ProvenKey, SigningRequest},
    meta::{Cause, FieldSelector, Object, time::format_time},
    notices::Notices,
    resources::{builtin, optional},
    service::{ApiCall, Body, ListOptions, Operation, Target, UserInfo, WriteOptions},
    status::{Reason, Status},
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

const REQUESTS: &str = "podcertificaterequests.certificates.k8s.io";
const ONE: &str = "system:node:one";

/// A server on which a pod `p` of `default` runs on the node `one`; the user `signer` may write statuses and sign for `example.com`.
async fn server() -> TestApi {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.resources = builtin().into_iter().chain(optional(|feature| feature == "PodCertificateRequest")).collect();
    options.authorizer = Some(Box::new(|listers| {
        Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups), Arc::new(NodeAuthorizer::new(listers.clone())), Arc::new(Rbac::new(listers))]))
    }));
    let api = boot_with(options).await;
    for name in ["one", "two"] {
        api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await;
    }
    api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]}}))
        .await;
    let rules = |rules: Value, name: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let writes = json!({"verbs": ["update"], "apiGroups": ["certificates.k8s.io"], "resources": ["podcertificaterequests/status"]});
    let signs = json!({"verbs": ["sign"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/*"]});
    api.create(rules(json!([writes]), "writer")).await;
    api.create(rules(json!([writes, signs]), "signer")).await;
    for name in ["writer", "signer"] {
        api.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]}))
            .await;
    }
    api
}

async fn call(api: &TestApi, user: &str, target: Target, operation: Operation) -> Result<ApiReply, Status> {
    let groups = if user.starts_with("system:node:") { vec!["system:nodes".into()] } else { Vec::new() };
    let user = Arc::new(UserInfo { name: user.into(), groups, ..UserInfo::default() });
    api.server.call(ApiCall { user, target, operation, cause: Cause::root(), notices: Notices::default() }).await
}

async fn ask(api: &TestApi, user: &str, object: &Value) -> Result<Object, Status> {
    let body = Body::Json(object.to_string().into());
    let operation = Operation::Create { body, options: WriteOptions::default() };
    call(api, user, api.target(REQUESTS, "default", ""), operation).await?.into_tree()
}

async fn tell(api: &TestApi, user: &str, object: &Value) -> Result<Object, Status> {
    let body = Body::Json(object.to_string().into());
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let operation = Operation::Update { body, options: WriteOptions::default() };
    call(api, user, api.subresource(REQUESTS, "default", name, "status"), operation).await?.into_tree()
}

async fn uid(api: &TestApi, resource: &str, namespace: &str, name: &str) -> Value {
    api.get(resource, namespace, name).await.expect("is there").str(&["metadata", "uid"]).into()
}

/// What the node `one` asks for the pod, with the key that it has.
async fn request(api: &TestApi) -> (ProvenKey, Value) {
    let key = ProvenKey::generate("ED25519").expect("a key");
    let request = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "PodCertificateRequest",
        "metadata": {"generateName": "req-", "namespace": "default"}, "spec": {
            "signerName": "example.com/signer", "podName": "p", "podUID": uid(api, "pods", "default", "p").await,
            "serviceAccountName": "default", "serviceAccountUID": uid(api, "serviceaccounts", "default", "default").await,
            "nodeName": "one", "nodeUID": uid(api, "nodes", "", "one").await, "stubPKCS10Request": BASE64_STANDARD.encode(&key.request)}});
    (key, request)
}

/// The request with a certificate that begins now and lasts for 65 minutes.
fn issued(mut request: Value, key: &ProvenKey) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(directory.path()).expect("a CA");
    let authority = CertificateAuthority::new(pki.ca_pem(), &pki.ca_key_pem().expect("a key")).expect("a CA");
    let asked = SigningRequest::from_der(key.request.clone()).expect("a request");
    // It begins five minutes before what it is told.
    let now = Timestamp::now() + SignedDuration::from_mins(5);
    let policy = Policy { usages: &["client auth".to_owned()], lasts: SignedDuration::from_hours(1), now };
    let chain = authority.sign(&asked, &policy).expect("signs");
    let facts = facts_of_pem(chain.as_bytes()).expect("a certificate");
    let [begins, refresh, ends] = [facts.not_before, facts.not_after - SignedDuration::from_mins(20), facts.not_after].map(format_time);
    request["status"] = json!({"conditions": [verdict("Issued")], "certificateChain": chain, "notBefore": begins, "beginRefreshAt": refresh,
        "notAfter": ends});
    request
}

fn verdict(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Tested", "message": "", "lastTransitionTime": format_time(Timestamp::now())})
}

#[actix::test]
async fn a_node_asks_for_pods_that_run_on_it_as_what_they_are() {
    let api = server().await;
    let (_, good) = request(&api).await;
    for (field, value, code, why) in [
        ("nodeName", json!("two"), 403, "PodCertificateRequest.Spec.NodeName=\"two\", which is not the requesting node \"one\""),
        ("nodeUID", json!("x"), 500, "names node UID \"x\", inconsistent with the running node"),
        ("podName", json!("q"), 500, "while retrieving pod \"default/q\" named in the PodCertificateRequest: pods \"q\" not found"),
        ("podUID", json!("x"), 500, "contains pod UID (\"x\") which differs from running pod"),
        ("serviceAccountName", json!("x"), 403, "contains serviceAccountName (\"x\") that differs from running pod (\"default\")"),
        ("serviceAccountUID", json!("x"), 500, "names service account UID \"x\", which differs from the running service account"),
    ] {
        let mut wrong = good.clone();
        wrong["spec"][field] = value;
        let refused = ask(&api, ONE, &wrong).await.expect_err(field);
        assert!(refused.code == code && refused.message.contains(why), "{field}: {refused:?}");
    }
    let made = ask(&api, ONE, &good).await.expect("its own pod");
    assert_eq!((made.int(&["spec", "maxExpirationSeconds"]), made.get(&["status"])), (Some(86_400), Some(&json!({}))));
    let read = |user: &'static str| call(&api, user, api.target(REQUESTS, "default", made.name()), Operation::Get { resource_version: None });
    read(ONE).await.expect("its own");
    assert_eq!(read("system:node:two").await.expect_err("another node's").reason, Reason::Forbidden);
    let mut foreign = good.clone();
    foreign["spec"]["nodeName"] = json!("two");
    foreign["spec"]["nodeUID"] = uid(&api, "nodes", "", "two").await;
    let refused = ask(&api, "system:node:two", &foreign).await.expect_err("a pod of another node");
    assert!(refused.message.ends_with("pod \"default/p\" is not running on node \"two\" named in the PodCertificateRequest"), "{refused:?}");
}

#[actix::test]
async fn requests_are_selected_by_signer_pod_and_node() {
    let api = server().await;
    let (_, good) = request(&api).await;
    let name = ask(&api, ONE, &good).await.expect("made").name().to_owned();
    for (fields, found) in [
        ("spec.nodeName=one", 1),
        ("spec.nodeName=two", 0),
        ("spec.podName=p,spec.signerName=example.com/signer", 1),
        ("spec.signerName=example.com/other", 0),
    ] {
        let options = ListOptions { fields: FieldSelector::parse(fields).expect("a selector"), ..ListOptions::default() };
        assert_eq!(api.list(REQUESTS, "default", options).await.expect("lists").items.len(), found, "{fields}");
    }
    assert_eq!(api.names(REQUESTS, "default").await, [name]);
}

#[actix::test]
async fn who_may_sign_tells_what_becomes_of_a_request_once() {
    let api = server().await;
    let (key, good) = request(&api).await;
    let made = ask(&api, ONE, &good).await.expect("made").into_value();
    let with_certificate = issued(made, &key);
    let refused = tell(&api, "writer", &with_certificate).await.expect_err("it may not sign");
    let why = "spec.signerName: Forbidden: User \"writer\" is not permitted to \"sign\" for signer \"example.com/signer\"";
    assert!(refused.code == 422 && refused.message.ends_with(why), "{refused:?}");
    let mut late = with_certificate.clone();
    late["status"]["notBefore"] = json!("2026-01-01T00:00:00Z");
    let refused = tell(&api, "signer", &late).await.expect_err("another time than the certificate's");
    assert!(refused.message.ends_with("must be set to the NotBefore time encoded in the leaf certificate"), "{refused:?}");
    let written = tell(&api, "signer", &with_certificate).await.expect("signs");
    assert!(written.str(&["status", "certificateChain"]).starts_with("-----BEGIN CERTIFICATE-----"));
    let mut denied = written.into_value();
    denied["status"] = json!({"conditions": [verdict("Denied")]});
    let refused = tell(&api, "signer", &denied).await.expect_err("it was issued");
    assert!(refused.message.ends_with("immutable after PodCertificateRequest is issued, denied, or failed"), "{refused:?}");
    let mut other = api.get(REQUESTS, "default", denied["metadata"]["name"].as_str().unwrap_or_default()).await.expect("is there").into_value();
    other["spec"]["podName"] = json!("q");
    assert!(api.try_update(other).await.expect_err("what is asked for stays").message.contains("field is immutable"));
}

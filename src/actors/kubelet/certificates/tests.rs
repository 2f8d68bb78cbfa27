use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use troupe_api::{
    Status,
    auth::{
        kubeconfig::Kubeconfig,
        node::ClusterIdentity,
        peer,
        pki::{KeyedCertificate, Pki},
        tls::RenewableCertificate,
    },
    certificates::{CertificateAuthority, Draft, Policy, SigningRequest},
    meta::Object,
};
use troupe_api_server::store::memory::MemoryStore;

use super::*;
use crate::{
    apiserver::{
        ApiServerOptions, VirtualRequest, VirtualResources,
        testing::{TestApi, boot_with},
    },
    controllers::certificates::{CsrApprovingController, CsrSigningController, KubeletServingApprover, LASTS},
    runtime::{cache::Caches, controller},
};

fn pki() -> (tempfile::TempDir, CertificateAuthority, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(dir.path()).expect("a CA");
    let authority = CertificateAuthority::new(pki.ca_pem(), &pki.ca_key_pem().expect("a key")).expect("a CA");
    let ca_pem = pki.ca_pem().to_owned();
    (dir, authority, ca_pem)
}

fn signed(authority: &CertificateAuthority, draft: &Draft, now: Timestamp, hours: i64) -> KeyedCertificate {
    let made = draft.with_new_key().expect("a request");
    let asked = SigningRequest::from_pem(made.request_pem.as_bytes()).expect("reads");
    let usages = ["digital signature".to_owned(), "client auth".to_owned()];
    let policy = Policy { usages: &usages, lasts: SignedDuration::from_hours(hours), now };
    KeyedCertificate { certificate_pem: authority.sign(&asked, &policy).expect("signs"), key_pem: made.key_pem }
}

#[test]
fn renewal_comes_late_in_a_certificates_time_but_not_too_late() {
    let (_dir, authority, _) = pki();
    let (draft, now) = (Draft::node_client("one"), Timestamp::now());
    let held = signed(&authority, &draft, now, 100);
    let after = |hours: i64, jitter: f64| next(Some(&held), &draft, jitter, now + SignedDuration::from_hours(hours));
    assert!(matches!(after(0, 0.0), Next::Wait(left) if left > Duration::from_secs(69 * 3600) && left < Duration::from_secs(71 * 3600)));
    assert_eq!(after(71, 0.0), Next::Request);
    assert!(matches!(after(71, 1.0), Next::Wait(_)));
    assert_eq!(after(91, 1.0), Next::Request);
    assert_eq!(next(None, &draft, 0.0, now), Next::Request);
    let moved = Draft::node_serving("one", vec![IpAddr::from([10, 0, 0, 7])]);
    assert_eq!(next(Some(&held), &moved, 0.0, now), Next::Request, "an address that the certificate lacks");
}

#[test]
fn holders_keep_certificates_in_files_that_only_root_reads() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, authority, ca_pem) = pki();
    let made = signed(&authority, &Draft::node_client("one"), Timestamp::now(), 1);
    let path = dir.path().join("kubelet.kubeconfig");
    let first = Kubeconfig { server: "https://x:1".into(), ca_pem, identity: KeyedCertificate { certificate_pem: "C".into(), key_pem: "K".into() } };
    first.write(&path, "kubelet").expect("writes");
    let client = KubeconfigHolder { path: path.clone() };
    client.hold(&made).expect("holds");
    let serving_path = dir.path().join("deep/serving.pem");
    let serving = ServingHolder::new(serving_path.clone(), Arc::new(RenewableCertificate::default()));
    assert!(serving.current().is_none());
    serving.hold(&made).expect("holds");
    for (held, path) in [(client.current(), path), (serving.current(), serving_path)] {
        let held = held.expect("is kept");
        assert_eq!((held.certificate_pem.trim(), held.key_pem.trim()), (made.certificate_pem.trim(), made.key_pem.trim()));
        assert_eq!(std::fs::metadata(path).expect("exists").permissions().mode() & 0o777, 0o600);
    }
}

/// Answers access reviews: everybody may.
struct Allowing;

impl VirtualResources for Allowing {
    fn create(&self, request: VirtualRequest) -> Option<BoxFuture<'static, Result<Object, Status>>> {
        let mut review = request.body;
        review.set(&["status", "allowed"], true);
        Some(std::future::ready(Ok(review)).boxed())
    }
}

async fn with_controllers() -> (TestApi, tempfile::TempDir) {
    let (dir, authority, _) = pki();
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.virtual_resources = Some(Box::new(|_| vec![Arc::new(Allowing)]));
    let api = boot_with(options).await;
    let caches = Caches::new(api.server.system().clone(), api.client.clone());
    let system = api.server.system();
    controller::start(system, &caches, api.client.clone(), CsrApprovingController::new(&caches));
    controller::start(system, &caches, api.client.clone(), KubeletServingApprover::new(&caches, ClusterIdentity::default()));
    controller::start(
        system,
        &caches,
        api.client.clone(),
        CsrSigningController::new(&caches, Arc::new(authority), LASTS, ClusterIdentity::default()),
    );
    (api, dir)
}

fn as_node(api: &TestApi) -> Client {
    let groups = vec!["system:nodes".to_owned(), "system:authenticated".to_owned()];
    let mut user = troupe_api::service::UserInfo { name: "system:node:one".into(), groups, ..Default::default() };
    peer::note(&mut user, Some(IpAddr::from([10, 0, 0, 7])));
    Client::new(api.server.clone(), Arc::new(user), "kubelet")
}

#[actix::test]
async fn a_node_gets_both_certificates_the_serving_one_once_it_shows_its_address() {
    let (api, _dir) = with_controllers().await;
    let node = as_node(&api);
    let client = request(&node, &Draft::node_client("one"), Purpose::Client, None).await.expect("a client certificate");
    let facts = troupe_api::auth::x509::facts_of_pem(client.certificate_pem.as_bytes()).expect("reads");
    assert_eq!(facts.common_name, "system:node:one");

    let draft = Draft::node_serving("one", vec![IpAddr::from([10, 0, 0, 7])]);
    let asked = {
        let node = node.clone();
        tokio::task::spawn_local(async move { request(&node, &draft, Purpose::Serving, Some(Duration::from_secs(7200))).await })
    };
    api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}})).await;
    let addresses = json!([{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "Hostname", "address": "one"}]);
    let target = api.subresource("nodes", "", "one", "status");
    api.patch(target, troupe_api::service::PatchType::Merge, json!({"status": {"addresses": addresses}})).await.expect("is written");
    let serving = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("in time").expect("ends").expect("a serving certificate");
    let facts = troupe_api::auth::x509::facts_of_pem(serving.certificate_pem.as_bytes()).expect("reads");
    assert_eq!(facts.ips, [IpAddr::from([10, 0, 0, 7])]);
    assert_eq!(facts.not_after.duration_since(facts.not_before).as_secs(), 7200 + 300);
}

#[actix::test]
async fn a_denied_request_is_told_as_such() {
    let (api, _dir) = with_controllers().await;
    // Nobody approves it: there is no such node.
    let draft = Draft::node_serving("one", vec![IpAddr::from([10, 0, 0, 8])]);
    let node = as_node(&api);
    let asked = tokio::task::spawn_local(async move { request(&node, &draft, Purpose::Serving, None).await });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let name = loop {
        assert!(tokio::time::Instant::now() < deadline, "nothing is asked for");
        if let Some(name) = api.names("certificatesigningrequests.certificates.k8s.io", "").await.first() {
            break name.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let mut csr = api.get("certificatesigningrequests.certificates.k8s.io", "", &name).await.expect("is there");
    csr.set(&["status", "conditions"], json!([{"type": "Denied", "status": "True", "message": "no"}]));
    let target = api.subresource("certificatesigningrequests.certificates.k8s.io", "", &name, "approval");
    api.try_update_at(target, csr.into_value()).await.expect("is denied");
    let refused = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("in time").expect("ends").err().expect("no certificate");
    assert!(matches!(refused, NotIssued::Denied { why, .. } if why == "no"));
}

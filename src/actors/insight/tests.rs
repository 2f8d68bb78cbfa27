use std::{collections::BTreeMap, net::TcpListener, sync::Arc};

use serde_json::{Value, json};
use troupe_api::{
    auth::{
        chain::PrivilegedGroups,
        pki::{LeafSpec, Pki, self_signed},
        tls,
        x509::{X509Authenticator, fingerprint_of_pem},
    },
    meta::{Cause, ObjectKey, ObjectVersion, Revision},
    version::VersionInfo,
};

use super::{
    Credentials, Insight,
    presence::{self, Card, Withdraw},
};
use crate::{
    apiserver::testing::{TestApi, boot},
    component_server::{self, ComponentServerOptions},
    metrics::Sources,
    runtime::{
        host::Unit,
        recorder::Name,
        system::{System, SystemOptions},
        unit::Policy,
    },
    serving::{LocalGate, ServerHandle},
    zpages::Zpages,
};

const LEASES: &str = "leases.coordination.k8s.io";

/// A second process: it only has an actor, and hops of its own.
struct Other {
    system: System,
    server: ServerHandle,
    credentials: Credentials,
    fingerprint: String,
    _dir: tempfile::TempDir,
}

struct Idle;
impl Unit for Idle {
    fn observe(&self) -> Value {
        json!("idle")
    }
}

impl Other {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let leaf = |name: &str, group: &str| LeafSpec {
            file: name.into(),
            common_name: name.into(),
            organizations: vec![group.into()],
            client: true,
            ..LeafSpec::default()
        };
        let identity = pki.leaf(&leaf("apiserver", "system:masters")).expect("a leaf");
        let serving = self_signed("troupe-control-plane").expect("a certificate");
        let system = System::new(SystemOptions { arbiters: 0, process: "controllers@other".into(), ..SystemOptions::default() }).expect("starts");
        let options = ComponentServerOptions {
            tls: Arc::new(tls::server_config(&serving, pki.ca_pem()).expect("a TLS configuration")),
            gate: Arc::new(LocalGate { authenticator: Arc::new(X509Authenticator), authorizer: Arc::new(PrivilegedGroups) }),
            system: system.clone(),
            metrics: Sources::new(&system, None, VersionInfo::of_build("1", "c", "d")),
            zpages: Arc::new(Zpages::new("other", VersionInfo::of_build("1", "c", "d"), BTreeMap::new(), Vec::new(), system.clock().clone())),
        };
        let server = component_server::serve(TcpListener::bind("127.0.0.1:0").expect("a port"), options).expect("serves");
        let shown = tls::RenewableCertificate::default();
        shown.show(&identity).expect("a usable certificate");
        let credentials = Credentials { ca_pem: pki.ca_pem().to_owned(), identity: Arc::new(shown) };
        let fingerprint = fingerprint_of_pem(serving.certificate_pem.as_bytes()).expect("a certificate");
        Other { system, server, credentials, fingerprint, _dir: dir }
    }

    fn card(&self, certificate: Option<String>) -> Card {
        Card { identity: "other_1".into(), process: "controllers@other".into(), kind: "control-plane", endpoint: self.server.addr(), certificate }
    }
}

/// Waits until the lease is there.
async fn lease(api: &TestApi) -> Value {
    let look = async {
        loop {
            let names = api.names(LEASES, "kube-system").await;
            if let Some(name) = names.iter().find(|name| name.starts_with("troupe-")) {
                return api.get(LEASES, "kube-system", name).await.expect("just seen").into_value();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), look).await.expect("the process tells of itself")
}

#[actix::test]
async fn an_api_server_asks_the_processes_that_leases_tell_of() {
    let (api, other) = (boot().await, Other::start());
    other.system.spawn("controllers/idle", Policy::default(), |_| Idle);
    let shown = presence::run(&other.system, api.client.clone(), other.card(Some(other.fingerprint.clone())));
    let lease = lease(&api).await;
    assert_eq!(lease["spec"]["holderIdentity"], "controllers@other");
    let insight = Insight::new(api.server.system().clone(), api.server.listers(), other.credentials.clone()).expect("usable credentials");
    let all = insight.actors().await;
    let processes = all["processes"].as_array().expect("a list");
    assert_eq!((processes.len(), &all["silent"]), (2, &json!([])), "{all}");
    let told = processes.iter().find(|listed| listed["process"]["name"] == "controllers@other").expect("the other answers");
    assert!(told["actors"].as_array().expect("a list").iter().any(|actor| actor["path"] == "controllers/idle" && actor["status"] == "idle"));
    let killed = insight.kill("path=controllers/idle&when=now").await.expect("it is there");
    assert_eq!(killed, json!({"killed": "controllers/idle", "process": "controllers@other"}));
    assert!(insight.kill("path=controllers/nothing").await.is_err());
    shown.ask(Withdraw, Cause::default()).await.expect("answers");
    assert!(!api.names(LEASES, "kube-system").await.iter().any(|name| name.starts_with("troupe-")), "a process that ends says so");
}

#[actix::test]
async fn a_trace_goes_through_all_processes() {
    let (api, other) = (boot().await, Other::start());
    let _shown = presence::run(&other.system, api.client.clone(), other.card(Some(other.fingerprint.clone())));
    lease(&api).await;
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}})).await;
    let key = ObjectKey::new("default", "a");
    let revision: Revision = api.get("configmaps", "default", "a").await.expect("there").resource_version().parse().expect("a number");
    // The other process acts on that version under a trace of its own.
    let version = Arc::new(ObjectVersion { resource: "configmaps".into(), key: key.clone(), revision });
    let (recorder, cause) = (other.system.recorder(), Cause::root().with_object(version));
    let outcome = Arc::new(ObjectVersion { resource: "elsewhere".into(), key: key.clone(), revision: Revision(1) });
    recorder.changed(Name::OUTSIDE, recorder.intern("other/worker"), recorder.intern("Act"), cause, outcome, std::time::Duration::ZERO);
    let insight = Insight::new(api.server.system().clone(), api.server.listers(), other.credentials.clone()).expect("usable credentials");
    let trace = insight.trace("configmaps", &key).await;
    let steps: Vec<(&str, &str)> = trace["steps"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|step| (step["process"].as_str().expect("a name"), step["message"].as_str().expect("a name")))
        .collect();
    assert_eq!(steps, [("troupe", "Commit"), ("controllers@other", "Act")], "{trace}");
}

#[actix::test]
async fn whoever_shows_another_certificate_than_the_lease_says_is_not_believed() {
    let (api, other) = (boot().await, Other::start());
    let _shown = presence::run(&other.system, api.client.clone(), other.card(Some("00".repeat(32))));
    lease(&api).await;
    let insight = Insight::new(api.server.system().clone(), api.server.listers(), other.credentials.clone()).expect("usable credentials");
    let all = insight.actors().await;
    assert_eq!(all["processes"].as_array().map(Vec::len), Some(1));
    assert_eq!(all["silent"][0]["process"], "controllers@other");
}

//! A webhook's certificate and its authority are exchanged while everything that asks it goes on: admission of writes, and conversion.

use std::{
    convert::Infallible,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use troupe_api::auth::{
    pki::{LeafSpec, Pki},
    tls,
};

use crate::{
    cluster::{Cluster, NODE_IP, eventually},
    https::{Connection, Door},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const THINGS: [&str; 2] = ["/apis/rotated.example.com/v1/namespaces/default/things", "/apis/rotated.example.com/v2/namespaces/default/things"];
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.rotated.example.com";
const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
const JSON_PATCH: &str = "application/json-patch+json";
/// So many requests go by between two steps, so that all have seen the first.
const BETWEEN: usize = 120;
/// Connections end after so many answers, so that certificates are looked at all the time.
const ANSWERS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority with a certificate for the webhook.
struct Issued {
    authority: String,
    serving: Arc<ServerConfig>,
    _dir: TempDir,
}

impl Issued {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let ips = vec![NODE_IP.parse().expect("an IP")];
        let spec = LeafSpec { file: "webhook".into(), common_name: "webhook".into(), ips, server: true, ..LeafSpec::default() };
        let mut serving = tls::server_config(&pki.leaf(&spec).expect("a leaf"), pki.ca_pem()).expect("a TLS configuration");
        serving.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A session that is taken up again shows no certificate.
        serving.session_storage = Arc::new(tokio_rustls::rustls::server::NoServerSessionStorage {});
        serving.send_tls13_tickets = 0;
        Issued { authority: pki.ca_pem().to_owned(), serving: Arc::new(serving), _dir: dir }
    }
}

/// The webhook. New connections see the certificate of the moment.
struct Webhook {
    port: u16,
    shown: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Webhook {
    async fn serve(first: &Issued) -> Self {
        let listener = TcpListener::bind((NODE_IP, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shown = Arc::new(RwLock::new(first.serving.clone()));
        let webhook = Webhook { port, shown: shown.clone() };
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(shown.read().clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let answered = Arc::new(AtomicUsize::new(0));
                    let service = service_fn(move |request| respond(request, answered.fetch_add(1, Relaxed) + 1 == ANSWERS));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        webhook
    }

    fn show(&self, issued: &Issued) {
        *self.shown.write() = issued.serving.clone();
    }

    fn client(&self, path: &str, bundle: &str) -> Value {
        json!({"url": format!("https://{NODE_IP}:{}/{path}", self.port), "caBundle": BASE64_STANDARD.encode(bundle)})
    }
}

async fn respond(request: Request<Incoming>, last: bool) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = review["request"].take();
    review["response"] = match path.as_str() {
        "/convert" => {
            let objects = asked["objects"].as_array().cloned().unwrap_or_default();
            let convert = |mut object: Value| {
                object["apiVersion"] = asked["desiredAPIVersion"].clone();
                object
            };
            let converted: Vec<Value> = objects.into_iter().map(convert).collect();
            json!({"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": converted})
        }
        "/mutate" => {
            let patch = json!([{"op": "add", "path": "/data", "value": {"seen": "yes"}}]).to_string();
            json!({"uid": asked["uid"], "allowed": true, "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(patch)})
        }
        _ => json!({"uid": asked["uid"], "allowed": true}),
    };
    let mut response = Response::builder().header("content-type", "application/json");
    if last {
        response = response.header("connection", "close");
    }
    Ok(response.body(Full::new(review.to_string().into())).expect("well formed"))
}

/// Everything that names the webhook: where it is, and the place of the bundle in it.
fn naming(webhook: &Webhook, bundle: &str) -> [(String, Value, &'static str); 3] {
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]});
    let registration = |kind: &str, path: &str| {
        let hook = json!({"name": "rotated.example.com", "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "clientConfig": webhook.client(path, bundle)});
        let version = "admissionregistration.k8s.io/v1";
        json!({"apiVersion": version, "kind": format!("{kind}WebhookConfiguration"), "metadata": {"name": "rotated"}, "webhooks": [hook]})
    };
    let version = |name: &str| {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        json!({"name": name, "served": true, "storage": name == "v1", "schema": schema})
    };
    let conversion =
        json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": webhook.client("convert", bundle)}});
    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing"});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.rotated.example.com"},
        "spec": {"group": "rotated.example.com", "scope": "Namespaced", "names": names, "versions": [version("v1"), version("v2")], "conversion": conversion}});
    let in_hooks = "/webhooks/0/clientConfig/caBundle";
    [
        (format!("{REGISTRATIONS}/mutatingwebhookconfigurations/rotated"), registration("Mutating", "mutate"), in_hooks),
        (format!("{REGISTRATIONS}/validatingwebhookconfigurations/rotated"), registration("Validating", "validate"), in_hooks),
        (DEFINITION.to_owned(), definition, "/spec/conversion/webhook/clientConfig/caBundle"),
    ]
}

async fn trust(connection: &mut Connection, webhook: &Webhook, bundle: &str) {
    for (path, _, place) in naming(webhook, bundle) {
        let patch = json!([{"op": "replace", "path": place, "value": BASE64_STANDARD.encode(bundle)}]).to_string();
        let (status, said) = connection.send("PATCH", &path, JSON_PATCH, patch).await;
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&said));
    }
}

/// What writers and readers share.
#[derive(Clone, Default)]
struct Traffic {
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Traffic {
    /// Does a round again and again, over a connection of its own; a request that fails fails the test.
    fn go<F>(&self, tasks: &mut JoinSet<()>, mut connection: Connection, round: impl Fn(Connection, usize) -> F + Send + 'static)
    where
        F: Future<Output = Connection> + Send + 'static,
    {
        let traffic = self.clone();
        tasks.spawn(async move {
            let mut number = 0;
            while !traffic.stop.load(Relaxed) {
                connection = round(connection, number).await;
                number += 1;
                traffic.done.fetch_add(1, Relaxed);
            }
        });
    }

    async fn goes_on(&self, tasks: &mut JoinSet<()>) {
        let (wanted, deadline) = (self.done.load(Relaxed) + BETWEEN, Instant::now() + PATIENCE);
        while self.done.load(Relaxed) < wanted {
            assert!(Instant::now() < deadline, "requests hang");
            if let Some(ended) = tasks.try_join_next() {
                ended.expect("no request fails");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn thing(version: &str, name: &str) -> String {
    json!({"apiVersion": format!("rotated.example.com/{version}"), "kind": "Thing", "metadata": {"name": name}, "spec": {"kept": name}}).to_string()
}

async fn make_map(mut connection: Connection, name: String) -> Connection {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}).to_string();
    let made = connection.json("POST", MAPS, body).await;
    let made: Value = serde_json::from_slice(&made).expect("JSON");
    assert_eq!(made["data"]["seen"], "yes", "the webhook was asked");
    connection
}

async fn make_thing(mut connection: Connection, name: String) -> Connection {
    connection.json("POST", THINGS[1], thing("v2", &name)).await;
    for (path, version) in THINGS.iter().zip(["v1", "v2"]) {
        let read = connection.json("GET", &format!("{path}/{name}"), "").await;
        let read: Value = serde_json::from_slice(&read).expect("JSON");
        assert_eq!((&read["apiVersion"], &read["spec"]["kept"]), (&json!(format!("rotated.example.com/{version}")), &json!(name)));
    }
    connection
}

/// Why a write fails, which it must within a while.
async fn refusal(connection: &mut Connection, path: &str, body: impl Fn(usize) -> String) -> String {
    let deadline = Instant::now() + PATIENCE;
    for number in 0.. {
        let (status, said) = connection.send("POST", path, "application/json", body(number)).await;
        if !status.is_success() {
            return String::from_utf8_lossy(&said).into_owned();
        }
        assert!(Instant::now() < deadline, "the old certificate is still believed");
    }
    unreachable!("numbers do not end")
}

async fn rotate(door: Door) {
    let (old, new) = (Issued::new(), Issued::new());
    let webhook = Webhook::serve(&old).await;
    let mut admin = door.connect().await;
    for (path, object, _) in naming(&webhook, &old.authority) {
        admin.json("POST", path.rsplit_once('/').expect("a name").0, object.to_string()).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while !admin.send("GET", THINGS[1], "", "").await.0.is_success() {
        assert!(Instant::now() < deadline, "the definition is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (traffic, mut tasks) = (Traffic::default(), JoinSet::new());
    for writer in 0..2 {
        traffic.go(&mut tasks, door.connect().await, move |connection, number| make_map(connection, format!("m-{writer}-{number}")));
        traffic.go(&mut tasks, door.connect().await, move |connection, number| make_thing(connection, format!("t-{writer}-{number}")));
    }
    traffic.goes_on(&mut tasks).await;
    trust(&mut admin, &webhook, &format!("{}{}", old.authority, new.authority)).await;
    traffic.goes_on(&mut tasks).await;
    webhook.show(&new);
    traffic.goes_on(&mut tasks).await;
    trust(&mut admin, &webhook, &new.authority).await;
    traffic.goes_on(&mut tasks).await;
    traffic.stop.store(true, Relaxed);
    tasks.join_all().await;
    // The old authority counts for nothing any more.
    webhook.show(&old);
    let map = |number| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("late-{number}")}}).to_string();
    for why in [refusal(&mut admin, MAPS, map).await, refusal(&mut admin, THINGS[1], |number| thing("v2", &format!("late-{number}"))).await] {
        assert!(why.contains("certificate"), "{why}");
    }
    webhook.show(&new);
    make_thing(make_map(admin, "last".into()).await, "last".into()).await;
}

#[test]
fn certificates_of_webhooks_are_exchanged_without_a_failed_request() {
    let cluster = Cluster::place();
    let _daemon = cluster.daemon("control-plane", &["--components=apiserver"]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    let kubeconfig = cluster.kubeconfig();
    let rotated = cluster.within(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(rotate(Door::of(&kubeconfig)));
    });
    if let Err(panic) = rotated.join() {
        std::panic::resume_unwind(panic);
    }
}

//! An extension API server in this process: it serves `flunders` over TLS to whoever shows a front proxy's certificate, and remembers what it
//! was asked.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::broadcast,
    task::AbortHandle,
};
use tokio_stream::wrappers::BroadcastStream;
use troupe_api::auth::{
    pki::{LeafSpec, Pki},
    request_header::CLIENT_NAME,
    tls::{self, RenewableCertificate},
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with, eventually},
};

pub const GROUP: &str = "wardle.example.com";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How it answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// It has neither an aggregated discovery document nor OpenAPI v3.
    pub old: bool,
    /// It answers requests for objects with 500.
    pub broken: bool,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: HeaderMap,
}

impl Asked {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }
}

struct State {
    manners: Mutex<Manners>,
    version: &'static str,
    flunders: Mutex<(u64, Vec<Value>)>,
    events: broadcast::Sender<String>,
    asked: Mutex<Vec<Asked>>,
}

/// The server, until it is dropped.
pub struct Extension {
    pub port: u16,
    ca: String,
    state: Arc<State>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
    acceptor: tokio_rustls::TlsAcceptor,
    dir: TempDir,
}

impl Extension {
    /// Serves `flunders` in a version of [`GROUP`], behind the Service `default/SERVICE`.
    pub async fn serve(service: &str, version: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (own, proxies) = (Pki::open(dir.path()).expect("a CA"), Pki::open_front_proxy(dir.path()).expect("a CA"));
        let dns_names = vec![format!("{service}.default.svc")];
        let spec = LeafSpec { file: "extension".into(), common_name: "extension".into(), dns_names, server: true, ..LeafSpec::default() };
        let mut config = tls::server_config(&own.leaf(&spec).expect("a leaf"), proxies.ca_pem()).expect("a TLS configuration");
        config.alpn_protocols.clear();
        let state = State {
            manners: Mutex::default(),
            version,
            flunders: Mutex::new((1, Vec::new())),
            events: broadcast::channel(64).0,
            asked: Mutex::default(),
        };
        let mut extension = Extension {
            port: 0,
            ca: BASE64_STANDARD.encode(own.ca_pem()),
            state: Arc::new(state),
            tasks: Arc::default(),
            acceptor: tokio_rustls::TlsAcceptor::from(Arc::new(config)),
            dir,
        };
        extension.listen().await;
        extension
    }

    async fn listen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("a free port");
        self.port = listener.local_addr().expect("bound").port();
        let (acceptor, state, tasks) = (self.acceptor.clone(), self.state.clone(), self.tasks.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), state.clone());
                let serving = tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let is_proxy = stream.get_ref().1.peer_certificates().is_some();
                    let service = service_fn(move |request| respond(request, state.clone(), is_proxy));
                    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    let _ = connection.with_upgrades().await;
                });
                tasks.lock().push(serving.abort_handle());
            }
        });
        self.tasks.lock().push(accepting.abort_handle());
    }

    /// Nobody listens any more.
    pub fn die(&self) {
        std::mem::take(&mut *self.tasks.lock()).iter().for_each(AbortHandle::abort);
    }

    /// It listens again, where it did before.
    pub async fn rise(&mut self) {
        self.listen().await;
    }

    pub fn behave(&self, manners: Manners) {
        *self.state.manners.lock() = manners;
    }

    /// What it was asked whose line has `part`.
    pub fn asked(&self, part: &str) -> Vec<Asked> {
        self.state.asked.lock().iter().filter(|asked| asked.line.contains(part)).cloned().collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.state.flunders.lock().1.iter().map(|flunder| flunder["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What shows the API server to it as a front proxy.
    fn proxy_certificate(&self) -> Arc<RenewableCertificate> {
        let proxies = Pki::open_front_proxy(self.dir.path()).expect("a CA");
        let spec = LeafSpec { file: "proxy".into(), common_name: CLIENT_NAME.into(), client: true, ..LeafSpec::default() };
        let shown = RenewableCertificate::default();
        shown.show(&proxies.leaf(&spec).expect("a leaf")).expect("usable");
        Arc::new(shown)
    }

    /// An API server that may reach it.
    pub async fn boot(&self) -> TestApi {
        self.boot_with(|_| {}).await
    }

    pub async fn boot_with(&self, adjust: impl FnOnce(&mut ApiServerOptions)) -> TestApi {
        let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
        options.webhooks_on_loopback = true;
        options.front_proxy = self.proxy_certificate();
        adjust(&mut options);
        boot_with(options).await
    }

    /// Makes the Service that leads to it.
    pub async fn make_service(&self, api: &TestApi, name: &str) {
        let spec = json!({"type": "ExternalName", "externalName": "localhost"});
        api.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
    }

    pub fn api_service(&self, service: &str) -> Value {
        self.api_service_of(service, GROUP, self.state.version)
    }

    /// The same of another group that it answers for.
    pub fn api_service_of(&self, service: &str, group: &str, version: &str) -> Value {
        let service = json!({"namespace": "default", "name": service, "port": self.port});
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": format!("{version}.{group}")},
            "spec": {"group": group, "version": version, "service": service, "caBundle": self.ca, "groupPriorityMinimum": 2000, "versionPriority": 200}})
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.die();
    }
}

fn text(code: u16, media_type: &str, body: String) -> Response<Body> {
    Response::builder().status(code).header("content-type", media_type).body(Full::from(body).boxed_unsync()).expect("well formed")
}

fn document(code: u16, value: &Value) -> Response<Body> {
    text(code, "application/json", value.to_string())
}

async fn respond(request: Request<Incoming>, state: Arc<State>, is_proxy: bool) -> Result<Response<Body>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    state.asked.lock().push(Asked { line, headers: request.headers().clone() });
    let manners = *state.manners.lock();
    if !is_proxy {
        return Ok(document(401, &json!({"kind": "Status", "code": 401})));
    }
    if manners.broken && request.uri().path().contains("/flunders") {
        return Ok(document(500, &json!({"kind": "Status", "apiVersion": "v1", "message": "I am broken", "code": 500})));
    }
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let version = state.version;
    let below = path.strip_prefix(&format!("/apis/{GROUP}/{version}")).map(str::to_owned);
    let accept = request.headers().get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if let Some(reply) = metrics(&path) {
        return Ok(document(200, &reply));
    }
    Ok(match (path.as_str(), below.as_deref()) {
        ("/apis", _) if !manners.old && accept.contains("v=v2;") => discovery(version),
        ("/openapi/v3", _) if !manners.old => {
            let url = format!("/openapi/v3/apis/{GROUP}/{version}?hash=ABC");
            document(200, &json!({"paths": {format!("apis/{GROUP}/{version}"): {"serverRelativeURL": url}}}))
        }
        (path, _) if path == format!("/openapi/v3/apis/{GROUP}/{version}") && !manners.old => {
            document(200, &json!({"openapi": "3.0.0", "of": "flunders"}))
        }
        ("/openapi/v2", _) => open_api(version),
        (_, Some("" | "/")) => resources(version),
        (_, Some(below)) => flunders(request, &state, below, &query).await,
        _ => document(404, &json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "not here"})),
    })
}

/// Versions of groups of metrics that it answers for, in the manner of an old server.
pub const METRICS: [(&str, &str); 3] = [("metrics.k8s.io", "v1beta1"), ("custom.metrics.k8s.io", "v1beta2"), ("external.metrics.k8s.io", "v1beta1")];

/// What the pod `default/web-1` uses and does. As with servers of metrics everywhere, the lists are made when they are asked for and have no version.
fn metrics(path: &str) -> Option<Value> {
    const TIME: &str = "2026-01-01T00:00:00Z";
    let (group, version) = METRICS.into_iter().find(|(group, version)| path.starts_with(&format!("/apis/{group}/{version}")))?;
    let group_version = format!("{group}/{version}");
    let list = |kind: &str, item: Value| json!({"kind": kind, "apiVersion": group_version, "metadata": {}, "items": [item]});
    let below = path.strip_prefix(&format!("/apis/{group_version}"))?;
    Some(match below {
        "/namespaces/default/pods" => list(
            "PodMetricsList",
            json!({"metadata": {"name": "web-1", "namespace": "default", "creationTimestamp": TIME}, "timestamp": TIME, "window": "30s",
                "containers": [{"name": "c", "usage": {"cpu": "150m", "memory": "1Mi"}}]}),
        ),
        "/namespaces/default/pods/%2A/queries" => list(
            "MetricValueList",
            json!({"describedObject": {"kind": "Pod", "namespace": "default", "name": "web-1", "apiVersion": "/v1"}, "metric": {"name": "queries"},
                "timestamp": TIME, "windowSeconds": 60, "value": "50"}),
        ),
        "/namespaces/default/waiting" => {
            list("ExternalMetricValueList", json!({"metricName": "waiting", "metricLabels": {}, "timestamp": TIME, "value": "20"}))
        }
        _ => json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": []}),
    })
}

fn discovery(version: &str) -> Response<Body> {
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "update", "watch"]);
    let resource = json!({"resource": "flunders", "responseKind": {"group": "", "version": "", "kind": "Flunder"}, "scope": "Namespaced",
        "singularResource": "flunder", "verbs": verbs, "shortNames": ["fl"]});
    let group = json!({"metadata": {"name": GROUP}, "versions": [{"version": version, "resources": [resource], "freshness": "Current"}]});
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [group]});
    text(200, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", list.to_string())
}

fn resources(version: &str) -> Response<Body> {
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "update", "watch"]);
    let resource = json!({"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": verbs});
    document(200, &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{version}"), "resources": [resource]}))
}

fn open_api(version: &str) -> Response<Body> {
    let schema = json!({"$ref": "#/definitions/example.Flunder"});
    let kind = json!({"group": GROUP, "version": version, "kind": "Flunder"});
    let path = format!("/apis/{GROUP}/{version}/namespaces/{{namespace}}/flunders/{{name}}");
    let operation = json!({"get": {"produces": ["application/json"], "responses": {"200": {"description": "OK", "schema": schema}}}});
    document(
        200,
        &json!({"swagger": "2.0", "paths": {path: operation, "/apis/": {}}, "definitions": {
            "example.Flunder": {"description": "A flunder.", "type": "object", "x-kubernetes-group-version-kind": [kind]}, "unused": {},
        }}),
    )
}

async fn flunders(request: Request<Incoming>, state: &State, below: &str, query: &str) -> Response<Body> {
    let parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
    let (namespace, name, action) = match parts[..] {
        ["flunders"] => ("", "", ""),
        ["namespaces", namespace, "flunders"] => (namespace, "", ""),
        ["namespaces", namespace, "flunders", name] => (namespace, name, ""),
        ["namespaces", namespace, "flunders", name, action] => (namespace, name, action),
        _ => return document(404, &json!({"kind": "Status", "code": 404})),
    };
    let is_in = |flunder: &Value| namespace.is_empty() || flunder["metadata"]["namespace"] == namespace;
    match (request.method().as_str(), name.is_empty()) {
        _ if action == "exec" => echo(request),
        ("GET", true) if query.contains("watch=true") => watch(state),
        ("GET", true) => {
            let (revision, all) = &*state.flunders.lock();
            let items: Vec<&Value> = all.iter().filter(|flunder| is_in(flunder)).collect();
            let metadata = json!({"resourceVersion": revision.to_string()});
            document(200, &json!({"kind": "FlunderList", "apiVersion": format!("{GROUP}/{}", state.version), "metadata": metadata, "items": items}))
        }
        ("GET", false) => match state.flunders.lock().1.iter().find(|flunder| is_in(flunder) && flunder["metadata"]["name"] == name) {
            Some(flunder) => document(200, flunder),
            None => document(404, &json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": format!("flunders {name:?} not found")})),
        },
        ("POST", true) => {
            let body = request.into_body().collect().await.expect("a whole body").to_bytes();
            let mut flunder: Value = serde_json::from_slice(&body).expect("JSON");
            let mut flunders = state.flunders.lock();
            flunders.0 += 1;
            flunder["metadata"]["namespace"] = namespace.into();
            flunder["metadata"]["uid"] = format!("uid-{}", flunders.0).into();
            flunder["metadata"]["resourceVersion"] = flunders.0.to_string().into();
            flunders.1.push(flunder.clone());
            // Nobody watching is fine.
            let _ = state.events.send(json!({"type": "ADDED", "object": flunder}).to_string());
            document(201, &flunder)
        }
        ("DELETE", _) => {
            state.flunders.lock().1.retain(|flunder| !is_in(flunder) || !name.is_empty() && flunder["metadata"]["name"] != name);
            document(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        _ => document(405, &json!({"kind": "Status", "code": 405})),
    }
}

fn watch(state: &State) -> Response<Body> {
    let events = BroadcastStream::new(state.events.subscribe()).filter_map(|event| async { event.ok() });
    let frames = events.map(|event| Ok::<_, Infallible>(Frame::data(Bytes::from(event + "\n"))));
    Response::builder().header("content-type", "application/json").body(BodyExt::boxed_unsync(StreamBody::new(frames))).expect("well formed")
}

/// Sends back what comes, in capitals.
fn echo(mut request: Request<Incoming>) -> Response<Body> {
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut bytes = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut bytes).await {
            bytes[..length].make_ascii_uppercase();
            if stream.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    });
    let response = Response::builder().status(101).header("connection", "Upgrade").header("upgrade", "websocket");
    response.body(Full::default().boxed_unsync()).expect("well formed")
}

/// The reason of an API service's condition.
pub async fn reason(api: &TestApi, name: &str) -> String {
    let Ok(object) = api.get("apiservices.apiregistration.k8s.io", "", name).await else { return String::new() };
    object.list(&["status", "conditions"]).first().map(|condition| condition["reason"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// Waits for that reason.
pub async fn becomes(api: &TestApi, name: &str, wanted: &str) {
    eventually(&format!("{name} becomes {wanted}"), async || reason(api, name).await == wanted).await;
}

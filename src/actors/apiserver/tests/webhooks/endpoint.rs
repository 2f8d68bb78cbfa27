//! A webhook: an HTTPS server of its own that answers reviews as a test says, and remembers what it was asked.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::AbortHandle};
use troupe_api::auth::{
    pki::{LeafSpec, Pki},
    tls,
};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

/// What the webhook does with a question.
pub enum Answer {
    /// The response, whose uid is put in.
    Say(Value),
    Late(Duration, Value),
    /// This body with this status code.
    Raw(u16, String),
}

/// A webhook that is there until it is dropped.
pub struct Endpoint {
    pub port: u16,
    ca: String,
    asked: Arc<Mutex<Vec<Value>>>,
    /// How many connections were made to it.
    connections: Arc<Mutex<usize>>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
    _dir: TempDir,
}

/// An API server whose webhooks may be on this machine.
pub async fn boot() -> TestApi {
    let mut options = ApiServerOptions::new(Arc::new(troupe_api_server::store::memory::MemoryStore::new()));
    options.webhooks_on_loopback = true;
    boot_with(options).await
}

/// A response that lets the request pass.
pub fn allowed() -> Answer {
    Answer::Say(json!({"allowed": true}))
}

/// A response that changes the object.
pub fn patched(patch: Value) -> Answer {
    Answer::Say(json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(patch.to_string())}))
}

/// A response that refuses.
pub fn denied(status: Value) -> Answer {
    Answer::Say(json!({"allowed": false, "status": status}))
}

impl Endpoint {
    /// Serves at a free port; `answer` is given each `request`.
    pub async fn serve(answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let ips = vec!["127.0.0.1".parse().expect("an IP")];
        let spec = LeafSpec {
            file: "hook".into(),
            common_name: "hook".into(),
            dns_names: vec!["hook.default.svc".into()],
            ips,
            server: true,
            ..LeafSpec::default()
        };
        let mut config = tls::server_config(&pki.leaf(&spec).expect("a leaf"), pki.ca_pem()).expect("a TLS configuration");
        config.alpn_protocols.clear();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (asked, connections, tasks) =
            (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<usize>>::default(), Arc::<Mutex<Vec<AbortHandle>>>::default());
        let (answer, kept, count, all) = (Arc::new(answer), asked.clone(), connections.clone(), tasks.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                *count.lock() += 1;
                let (acceptor, answer, kept) = (acceptor.clone(), answer.clone(), kept.clone());
                let serving = tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| respond(request, answer.clone(), kept.clone()));
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
                all.lock().push(serving.abort_handle());
            }
        });
        tasks.lock().push(accepting.abort_handle());
        Endpoint { port, ca: BASE64_STANDARD.encode(pki.ca_pem()), asked, connections, tasks, _dir: dir }
    }

    /// The `request`s so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().clone()
    }

    /// The same, and forgets them.
    pub fn take_asked(&self) -> Vec<Value> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// The operations and subresources that were asked about so far, and forgets them.
    pub fn take_operations(&self) -> Vec<String> {
        let asked = self.take_asked();
        let told = |request: &Value| {
            format!("{} {}", request["operation"].as_str().unwrap_or_default(), request["subResource"].as_str().unwrap_or_default())
        };
        asked.iter().map(|request| told(request).trim_end().to_owned()).collect()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock()
    }

    /// A webhook here that converts, for `spec.conversion`.
    pub fn conversion(&self, review_versions: &[&str]) -> Value {
        let client = json!({"url": format!("https://127.0.0.1:{}/here", self.port), "caBundle": self.ca});
        json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": review_versions}})
    }

    /// A webhook here for all operations on ConfigMaps, with what `change` says otherwise.
    pub fn webhook(&self, name: &str, change: Value) -> Value {
        let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["configmaps"]});
        let mut webhook = json!({"name": name, "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://127.0.0.1:{}/here", self.port), "caBundle": self.ca}});
        for (field, value) in change.as_object().into_iter().flatten() {
            webhook[field] = value.clone();
        }
        webhook
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(AbortHandle::abort);
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<impl Fn(&Value) -> Answer>,
    asked: Arc<Mutex<Vec<Value>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("JSON");
    asked.lock().push(review["request"].clone());
    let mut response = match answer(&review["request"]) {
        Answer::Say(response) => response,
        Answer::Late(after, response) => {
            tokio::time::sleep(after).await;
            response
        }
        Answer::Raw(code, body) => {
            return Ok(Response::builder().status(code).body(Full::new(body.into())).expect("well formed"));
        }
    };
    if response.get("uid").is_none() {
        response["uid"] = review["request"]["uid"].clone();
    }
    let review = json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
    Ok(Response::new(Full::new(review.to_string().into())))
}

/// A configuration of webhooks.
pub fn configuration(kind: &str, name: &str, webhooks: Vec<Value>) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"), "metadata": {"name": name}, "webhooks": webhooks})
}

/// A ConfigMap in the namespace `default`.
pub fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "b"}})
}

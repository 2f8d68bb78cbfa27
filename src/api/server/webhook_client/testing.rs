//! An HTTPS server of a test's own, which answers as the test says and remembers what it was asked.

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::AbortHandle};
use troupe_api::auth::{
    kubeconfig::Kubeconfig,
    pki::{KeyedCertificate, LeafSpec, Pki},
    tls,
};

/// The path of a request and its body, empty where it has none.
type Asked = (String, Value);
type Reply = (u16, String);

/// What requests brought.
#[derive(Default)]
struct Kept {
    asked: Vec<Asked>,
    /// Their `traceparent`.
    traces: Vec<Option<String>>,
}

/// There until it is dropped.
pub struct Server {
    pub port: u16,
    pub ca_pem: String,
    pub kubeconfig: PathBuf,
    kept: Arc<Mutex<Kept>>,
    task: AbortHandle,
    _dir: TempDir,
}

impl Server {
    /// Serves at a free port.
    pub async fn serve(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Server::start(false, answer).await
    }

    /// The same with a certificate that signed itself.
    pub async fn serve_alone(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Server::start(true, answer).await
    }

    async fn start(alone: bool, answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let leaf = |file: &str, server: bool| {
            let ips = vec!["127.0.0.1".parse().expect("an IP")];
            let spec = LeafSpec { file: file.into(), common_name: file.into(), ips, server, client: !server, ..LeafSpec::default() };
            pki.leaf(&spec).expect("a leaf")
        };
        let serving = if alone { signed_by_itself() } else { leaf("server", true) };
        let ca_pem = if alone { serving.certificate_pem.clone() } else { pki.ca_pem().to_owned() };
        let mut config = tls::server_config(&serving, pki.ca_pem()).expect("a TLS configuration");
        config.alpn_protocols.clear();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let kubeconfig = dir.path().join("webhook.kubeconfig");
        let server = format!("https://127.0.0.1:{port}/here");
        Kubeconfig { server, ca_pem: ca_pem.clone(), identity: leaf("client", false) }.write(&kubeconfig, "webhook").expect("writes");
        let (answer, asked) = (Arc::new(answer), Arc::<Mutex<Kept>>::default());
        let kept = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, answer, kept) = (acceptor.clone(), answer.clone(), kept.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| respond(request, answer.clone(), kept.clone()));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Server { port, ca_pem, kubeconfig, kept: asked, task: task.abort_handle(), _dir: dir }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.kept.lock().asked.clone()
    }

    /// The `traceparent` of each request so far.
    pub fn traces(&self) -> Vec<Option<String>> {
        self.kept.lock().traces.clone()
    }
}

fn signed_by_itself() -> KeyedCertificate {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    KeyedCertificate { certificate_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<impl Fn(&str, &Value) -> Reply>,
    kept: Arc<Mutex<Kept>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let trace = request.headers().get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (code, text) = answer(&path, &body);
    let mut all = kept.lock();
    all.asked.push((path, body));
    all.traces.push(trace);
    drop(all);
    // What Go's server says of JSON where the webhook says nothing.
    let reply = Response::builder().status(code).header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    Ok(reply.body(Full::new(text.into())).expect("well formed"))
}

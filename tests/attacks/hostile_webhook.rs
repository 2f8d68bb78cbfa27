//! A webhook's server that does whatever its path says, in the network namespace of a cluster.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use troupe_api::auth::{
    pki::{LeafSpec, Pki},
    tls,
};

use crate::cluster::{Cluster, NODE_IP};

/// More than an answer may have.
const LONG: usize = 10 << 20;

/// See the module. It serves until it is dropped.
pub struct HostileWebhook {
    port: u16,
    ca: String,
    /// Questions so far, and those that are not answered yet.
    pub asked: Arc<AtomicUsize>,
    pub waiting: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: TempDir,
}

/// What all connections share.
#[derive(Clone)]
struct Served {
    asked: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    kubeconfig: PathBuf,
    client: Arc<tokio::sync::OnceCell<Client>>,
}

impl HostileWebhook {
    pub fn beside(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let ips = vec![NODE_IP.parse().expect("an IP")];
        let spec = LeafSpec { file: "hook".into(), common_name: "hook".into(), ips, server: true, ..LeafSpec::default() };
        let mut config = tls::server_config(&pki.leaf(&spec).expect("a leaf"), pki.ca_pem()).expect("a TLS configuration");
        config.alpn_protocols.clear();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (asked, waiting) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let served = Served { asked: asked.clone(), waiting: waiting.clone(), kubeconfig: cluster.kubeconfig(), client: Arc::default() };
        let ((stop, stopped), (bound, port)) = (oneshot::channel::<()>(), mpsc::channel());
        let thread = cluster.within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind((NODE_IP, 0)).await.expect("a free port");
                bound.send(listener.local_addr().expect("bound").port()).expect("the test waits");
                let accepting = async {
                    while let Ok((tcp, _)) = listener.accept().await {
                        let (acceptor, served) = (acceptor.clone(), served.clone());
                        tokio::spawn(async move { served.connection(acceptor, tcp).await });
                    }
                };
                tokio::select! { () = accepting => {}, _ = stopped => {} }
            });
        });
        let port = port.recv().expect("it serves");
        HostileWebhook { port, ca: BASE64_STANDARD.encode(pki.ca_pem()), asked, waiting, stop: Some(stop), thread: Some(thread), _dir: dir }
    }

    /// A configuration that asks it about `rule` in a namespace, under the path that says what it does.
    pub fn configuration(&self, kind: &str, path: &str, namespace: &str, rule: &Value, seconds: u8) -> Value {
        let webhook = json!({"name": format!("{path}.example.com"), "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "timeoutSeconds": seconds, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "clientConfig": {"url": format!("https://{NODE_IP}:{}/{path}", self.port), "caBundle": self.ca}});
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": format!("hostile-{path}")}, "webhooks": [webhook]})
    }
}

impl Drop for HostileWebhook {
    fn drop(&mut self) {
        drop(self.stop.take());
        // If it panicked, it serves no more either.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Counts a question until it is answered or given up.
struct Question(Arc<AtomicUsize>);

impl Question {
    fn begin(served: &Served) -> Self {
        served.asked.fetch_add(1, Relaxed);
        served.waiting.fetch_add(1, Relaxed);
        Question(served.waiting.clone())
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Served {
    /// One question a connection, as the server closes it afterwards.
    async fn connection(self, acceptor: TlsAcceptor, tcp: TcpStream) {
        let Ok(mut stream) = acceptor.accept(tcp).await else { return };
        let Some((path, review)) = read(&mut stream).await else { return };
        let _question = Question::begin(&self);
        // It is the client's to complain.
        let _ = self.answer(&path, &review["request"], &mut stream).await;
        let _ = stream.shutdown().await;
    }

    async fn answer(&self, path: &str, request: &Value, stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
        let said = |change: Value| {
            let mut response = json!({"uid": request["uid"], "allowed": true});
            for (field, value) in change.as_object().into_iter().flatten() {
                response[field] = value.clone();
            }
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).to_string()
        };
        let patch = |text: &str| said(json!({"patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(text)}));
        let reply = |kind: &str, body: &str| {
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        let json_reply = |body: String| reply("application/json", &body);
        let bytes = match path {
            "hang" => return std::future::pending().await,
            "drip" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
                loop {
                    stream.write_all(b" ").await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            "uid" => json_reply(said(json!({"uid": "another"}))),
            "nopatch" => json_reply(patch("this is no patch")),
            "spoil" => json_reply(patch(r#"[{"op": "replace", "path": "", "value": [1, 2, 3]}]"#)),
            "rename" => json_reply(patch(
                r#"[{"op": "replace", "path": "/metadata/name", "value": "somebody-else"}, {"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}]"#,
            )),
            "html" => reply("text/html; charset=utf-8", "<p>Nothing to see here.</p>"),
            "long" => json_reply(said(json!({"warnings": ["x".repeat(LONG)]}))),
            "die" => {
                let whole = json_reply(said(json!({})));
                whole[..whole.len() - 20].to_owned()
            }
            "refuse" => json_reply(said(json!({"allowed": false, "status": {"message": "nobody may do anything"}}))),
            "loop" => {
                let looped = self.again(request).await;
                json_reply(said(json!({"allowed": looped.is_ok(), "status": {"message": looped.err()}})))
            }
            _ => json_reply(said(json!({}))),
        };
        stream.write_all(bytes.as_bytes()).await?;
        stream.flush().await
    }

    /// Makes one more of what it is asked about.
    async fn again(&self, request: &Value) -> Result<(), String> {
        let connect = async {
            let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
            Client::try_from(config).expect("a client")
        };
        let client = self.client.get_or_init(|| connect).await.clone();
        let maps: Api<ConfigMap> = Api::namespaced(client, request["namespace"].as_str().unwrap_or_default());
        let map = serde_json::from_value(json!({"metadata": {"generateName": "again-"}})).expect("a config map");
        maps.create(&PostParams::default(), &map).await.map(drop).map_err(|error| error.to_string())
    }
}

/// The first part of a request's path, and its body.
async fn read(stream: &mut TlsStream<TcpStream>) -> Option<(String, Value)> {
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok())?;
            if bytes.len() >= end + 4 + length {
                let path = head.split(['/', '?', ' ']).find(|part| !part.is_empty() && *part != "post")?.to_owned();
                return Some((path, serde_json::from_slice(&bytes[end + 4..end + 4 + length]).ok()?));
            }
        }
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
}

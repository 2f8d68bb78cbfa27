//! An HTTPS server of the benchmark's own, at the node's address.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::AbortHandle};
use troupe_api::auth::{
    pki::{LeafSpec, Pki},
    tls,
};

use crate::{cluster::NODE_IP, https::Door};

/// It serves until it is dropped.
pub struct Backend {
    pub port: u16,
    /// PEM of its authority.
    pub ca: String,
    serving: AbortHandle,
    _dir: TempDir,
}

impl Backend {
    /// Answers paths and bodies with JSON.
    pub async fn serve(answer: impl Fn(&str, &[u8]) -> String + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let spec = LeafSpec {
            file: "backend".into(),
            common_name: "backend".into(),
            dns_names: vec!["bench-backend.default.svc".into()],
            ips: vec![NODE_IP.parse().expect("an IP")],
            server: true,
            ..LeafSpec::default()
        };
        let leaf = pki.leaf(&spec).expect("a leaf");
        let certificates = CertificateDer::pem_slice_iter(leaf.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>().expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        // The API server shows who it is; a server of somebody else's may not want to know.
        let mut config = versions.with_no_client_auth().with_single_cert(certificates, key).expect("they belong together");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((NODE_IP, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let answer = Arc::new(answer);
        let serving = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                // A failure costs latency only.
                let _ = tcp.set_nodelay(true);
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| respond(request, answer.clone()));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Backend { port, ca: pki.ca_pem().to_owned(), serving: serving.abort_handle(), _dir: dir }
    }

    /// The way straight to it.
    pub fn door(&self) -> Door {
        let tls = tls::client_config(&self.ca, None).expect("usable certificates");
        Door::at(format!("{NODE_IP}:{}", self.port).parse().expect("an address"), tls)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn respond(request: Request<Incoming>, answer: Arc<impl Fn(&str, &[u8]) -> String>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let answer = answer(&path, &body);
    Ok(Response::builder().header("content-type", "application/json").body(Full::new(answer.into())).expect("well formed"))
}

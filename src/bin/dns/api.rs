//! A small client of the API server: lists and watches as JSON, with the pod's service account.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const LIST_PATIENCE: Duration = Duration::from_secs(60);
/// Seconds after which the server ends a watch, and how much longer silence is borne.
const WATCH_SECONDS: u64 = 300;
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 30);

/// Where the API server is, and who we are there.
#[derive(Clone, Debug)]
pub struct Api {
    host: String,
    port: u16,
    account: PathBuf,
}

/// A list as the API server sends it.
#[derive(Debug, Deserialize)]
pub struct List<K> {
    pub metadata: ListMeta,
    #[serde(default = "Vec::new")]
    pub items: Vec<K>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    #[serde(default)]
    pub resource_version: String,
}

/// The API server does not do what it was asked for.
#[derive(Debug)]
pub struct Refused {
    pub path: String,
    pub status: StatusCode,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.path, self.status)
    }
}

impl std::error::Error for Refused {}

impl Api {
    /// The API server that the kubelet names in every container's environment.
    pub fn from_environment(account: &std::path::Path) -> anyhow::Result<Self> {
        let host = std::env::var("KUBERNETES_SERVICE_HOST").context("KUBERNETES_SERVICE_HOST is not set")?;
        let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".into());
        let port = port.parse().context("KUBERNETES_SERVICE_PORT is no port")?;
        Ok(Api::new(host, port, account))
    }

    pub fn new(host: impl Into<String>, port: u16, account: &std::path::Path) -> Self {
        Api { host: host.into(), port, account: account.into() }
    }

    /// Host and port, an IPv6 address in brackets.
    fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// Everything below `path`.
    pub async fn list<K: for<'de> Deserialize<'de>>(&self, path: &str) -> anyhow::Result<List<K>> {
        let body = self.request(Method::GET, path, String::new()).await?;
        let bytes = timeout(LIST_PATIENCE, body.collect()).await.context("the list took too long")??.to_bytes();
        serde_json::from_slice(&bytes).with_context(|| format!("decoding the list of {path}"))
    }

    /// Changes below `path` after `revision`.
    pub async fn watch(&self, path: &str, revision: &str) -> anyhow::Result<Lines> {
        let more = if path.contains('?') { '&' } else { '?' };
        let query = format!("{path}{more}watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={revision}");
        Ok(Lines { body: self.request(Method::GET, &query, String::new()).await?, buffer: Vec::new() })
    }

    /// Asks for one object, or writes it as JSON; gives what is answered.
    ///
    /// # Errors
    /// [`Refused`] with the server's status, and what keeps from asking it.
    pub async fn send(&self, method: Method, path: &str, body: String) -> anyhow::Result<Bytes> {
        let answer = self.request(method, path, body).await?;
        Ok(timeout(LIST_PATIENCE, answer.collect()).await.context("the answer took too long")??.to_bytes())
    }

    async fn request(&self, method: Method, path: &str, body: String) -> anyhow::Result<Incoming> {
        let stream = timeout(CONNECT_PATIENCE, TcpStream::connect((self.host.as_str(), self.port))).await.context("connecting took too long")??;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone()).context("the API server's host is no name")?;
        let stream = timeout(CONNECT_PATIENCE, self.connector()?.connect(name, stream)).await.context("the TLS handshake took too long")??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection's own error shows in the body, which its user reads.
        tokio::spawn(connection);
        // Read each time: the kubelet renews it.
        let token = std::fs::read_to_string(self.account.join("token")).context("reading the service account token")?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.authority())
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("troupe-dns/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = timeout(LIST_PATIENCE, sender.send_request(request)).await.context("the API server took too long")??;
        if !response.status().is_success() {
            return Err(Refused { path: path.to_owned(), status: response.status() }.into());
        }
        Ok(response.into_body())
    }

    fn connector(&self) -> anyhow::Result<TlsConnector> {
        let pem = std::fs::read(self.account.join("ca.crt")).context("reading the cluster's CA certificate")?;
        let mut roots = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// The lines of a watch.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; `None` when the watch has ended.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.drain(..=end).collect();
                return Ok(Some(line));
            }
            let Some(frame) = timeout(SILENCE, self.body.frame()).await.context("the watch went silent")? else { return Ok(None) };
            if let Ok(data) = frame?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

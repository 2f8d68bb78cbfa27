//! A front door over a real API server, and a plain HTTP/1.1 client for it.

use std::{net::TcpListener, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use troupe_api::{
    auth::{
        chain::{AuthorizerChain, PrivilegedGroups},
        pki::{LeafSpec, Pki},
        tls,
        x509::X509Authenticator,
    },
    version::VersionInfo,
};
use troupe_api_server::http::{HttpOptions, HttpServerHandle, serve};

use crate::apiserver::testing::{TestApi, boot};

/// An API server behind its front door, with a connection of an administrator's.
pub struct Door {
    api: TestApi,
    connection: SendRequest<Full<Bytes>>,
    handle: HttpServerHandle,
    client: Arc<rustls::ClientConfig>,
    _dir: TempDir,
}

/// Another connection to the same server.
pub struct Another(SendRequest<Full<Bytes>>);

/// A reply that goes on.
pub struct Stream {
    pub status: StatusCode,
    body: hyper::body::Incoming,
    buffer: Vec<u8>,
    _connection: SendRequest<Full<Bytes>>,
}

impl Stream {
    /// The next line, which is JSON.
    pub async fn line(&mut self) -> Value {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).expect("JSON");
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(10), self.body.frame()).await.expect("something comes");
            let frame = frame.expect("it goes on").expect("it is whole");
            self.buffer.extend_from_slice(frame.data_ref().expect("data"));
        }
    }
}

impl Another {
    pub async fn post(&mut self, path: &str, body: &Value) -> Reply {
        send(&mut self.0, "POST", path, &[("content-type", "application/json")], body.to_string().into()).await
    }

    /// Asks to upgrade to a protocol; the status code and the stream.
    pub async fn upgrade(&mut self, path: &str, protocol: &str) -> (u16, TokioIo<hyper::upgrade::Upgraded>) {
        let request = Request::get(path).header("host", "door").header("connection", "Upgrade").header("upgrade", protocol);
        let mut reply = self.0.send_request(request.body(Full::default()).expect("well formed")).await.expect("a reply");
        let stream = hyper::upgrade::on(&mut reply).await.expect("is upgraded");
        (reply.status().as_u16(), TokioIo::new(stream))
    }
}

async fn send(connection: &mut SendRequest<Full<Bytes>>, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
    let mut request = Request::builder().method(method).uri(path).header("host", "door");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    connection.ready().await.expect("connected");
    let response = connection.send_request(request.body(Full::new(body)).expect("well formed")).await.expect("a reply");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Reply { status: head.status, headers: head.headers, body }
}

/// A whole reply.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The status code and the message of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["message"].as_str().unwrap_or_default().to_owned())
    }

    /// The texts of the `Warning` headers.
    pub fn warnings(&self) -> Vec<String> {
        let texts = self.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok());
        let quoted = texts.filter_map(|text| text.strip_prefix("299 - \"")?.strip_suffix('"'));
        quoted.map(|text| text.replace("\\\"", "\"")).collect()
    }
}

async fn connect(handle: &HttpServerHandle, config: Arc<rustls::ClientConfig>) -> SendRequest<Full<Bytes>> {
    let tcp = tokio::net::TcpStream::connect(handle.addr()).await.expect("connects");
    let tls = tokio_rustls::TlsConnector::from(config).connect(ServerName::from(handle.addr().ip()), tcp).await.expect("a TLS session");
    let (connection, driver) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.expect("speaks HTTP");
    tokio::spawn(driver.with_upgrades());
    connection
}

impl Door {
    pub async fn open() -> Self {
        Door::open_to(boot().await).await
    }

    pub async fn open_to(api: TestApi) -> Self {
        Door::open_with(api, |_| {}).await
    }

    /// The same with other options.
    pub async fn open_with(api: TestApi, change: impl FnOnce(&mut HttpOptions)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let ips = vec!["127.0.0.1".parse().expect("an IP")];
        let server = LeafSpec { file: "server".into(), common_name: "server".into(), ips, server: true, ..LeafSpec::default() };
        let organizations = vec!["system:masters".into()];
        let admin = LeafSpec { file: "admin".into(), common_name: "admin".into(), organizations, client: true, ..LeafSpec::default() };
        let server = pki.leaf(&server).expect("a leaf");
        let admin = pki.leaf(&admin).expect("a leaf");
        let server_tls = Arc::new(tls::server_config(&server, pki.ca_pem()).expect("a TLS configuration"));
        let authorizer = Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups)]));
        let version = VersionInfo::of_build("0.0.1", "abc", "2026-01-02T03:04:05Z");
        let mut options = HttpOptions::new(server_tls, api.server.clone(), Arc::new(X509Authenticator), authorizer, version);
        options.workers = 1;
        options.aggregator = Some(api.server.aggregator());
        change(&mut options);
        let handle = serve(TcpListener::bind("127.0.0.1:0").expect("a free port"), options).expect("serves");
        let config = tls::client_config(pki.ca_pem(), Some(&admin)).expect("a TLS configuration");
        let client = Arc::new(config);
        let connection = connect(&handle, client.clone()).await;
        Door { api, connection, handle, client, _dir: dir }
    }

    /// The API server itself.
    pub fn api(&self) -> &TestApi {
        &self.api
    }

    /// Another connection.
    pub async fn another(&self) -> Another {
        Another(connect(&self.handle, self.client.clone()).await)
    }

    /// Asks for what goes on, over a connection of its own.
    pub async fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Stream {
        let mut connection = connect(&self.handle, self.client.clone()).await;
        let mut request = Request::get(path).header("host", "door");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = connection.send_request(request.body(Full::default()).expect("well formed")).await.expect("a reply");
        Stream { status: reply.status(), body: reply.into_body(), buffer: Vec::new(), _connection: connection }
    }

    /// Sends a request and reads the whole reply.
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        send(&mut self.connection, method, path, headers, body.into()).await
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], body.to_string()).await
    }

    pub async fn put(&mut self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, &[], body.to_string()).await
    }

    pub async fn post_yaml(&mut self, path: &str, body: &str) -> Reply {
        self.send("POST", path, &[("content-type", "application/yaml")], body.to_owned()).await
    }

    /// Server-side apply, by the manager `test`.
    pub async fn apply(&mut self, path: &str, body: &Value) -> Reply {
        self.send("PATCH", &format!("{path}?fieldManager=test"), &[("content-type", "application/apply-patch+yaml")], body.to_string()).await
    }

    pub async fn close(self) {
        drop(self.connection);
        self.handle.stop().await;
    }
}

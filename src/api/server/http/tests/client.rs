//! A front door on a port of its own and a plain HTTP/1.1 client for it. The benchmark uses them too.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use troupe_api::{
    auth::{
        pki::{KeyedCertificate, LeafSpec, Pki},
        tls,
    },
    version::VersionInfo,
};
use troupe_api_server::http::{HttpOptions, HttpServerHandle, options::bind, serve};

use super::fake::{FakeAuthenticator, FakeAuthorizer, FakeService};

/// A running front door over a fake service.
pub struct Door {
    pub service: Arc<FakeService>,
    pub handle: HttpServerHandle,
    pub pki: Pki,
    pub admin: KeyedCertificate,
    pub server: KeyedCertificate,
    pub dir: TempDir,
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

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Door {
    /// Opens a door; `adjust` changes its options.
    pub fn open(service: FakeService, adjust: impl FnOnce(&mut HttpOptions)) -> Self {
        Door::open_with(service, |options, _, _| adjust(options))
    }

    /// The same; `adjust` is given the authority and the server's certificate too.
    pub fn open_with(service: FakeService, adjust: impl FnOnce(&mut HttpOptions, &Pki, &KeyedCertificate)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let server = LeafSpec {
            file: "server".into(),
            common_name: "server".into(),
            ips: vec!["127.0.0.1".parse().expect("an IP")],
            server: true,
            ..LeafSpec::default()
        };
        let admin = LeafSpec {
            file: "admin".into(),
            common_name: "cert".into(),
            organizations: vec!["system:masters".into()],
            client: true,
            ..LeafSpec::default()
        };
        let server = pki.leaf(&server).expect("a leaf");
        let tls = tls::server_config(&server, pki.ca_pem()).expect("a TLS configuration");
        let admin = pki.leaf(&admin).expect("a leaf");
        let service = Arc::new(service);
        let version = VersionInfo::of_build("0.0.1", "abc", "2026-01-02T03:04:05Z");
        let mut options = HttpOptions::new(Arc::new(tls), service.clone(), Arc::new(FakeAuthenticator), Arc::new(FakeAuthorizer), version);
        options.workers = 1;
        adjust(&mut options, &pki, &server);
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let handle = serve(listener, options).expect("serves");
        Door { service, handle, pki, admin, server, dir }
    }

    /// A connection with the administrator's certificate, or with none.
    pub async fn connect(&self, with_certificate: bool) -> Connection {
        self.connect_to(self.handle.addr(), with_certificate).await
    }

    /// The same to another server with this door's certificate.
    pub async fn connect_to(&self, addr: SocketAddr, with_certificate: bool) -> Connection {
        let identity = with_certificate.then_some(&self.admin);
        let config = tls::client_config(self.pki.ca_pem(), identity).expect("a TLS configuration");
        Connection::open(addr, config).await
    }

    /// A connection with this certificate.
    pub async fn connect_as(&self, identity: &KeyedCertificate) -> Connection {
        Connection::open(self.handle.addr(), tls::client_config(self.pki.ca_pem(), Some(identity)).expect("a TLS configuration")).await
    }
}

/// One HTTP/1.1 connection.
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    async fn open(addr: SocketAddr, config: rustls::ClientConfig) -> Self {
        let tcp = tokio::net::TcpStream::connect(addr).await.expect("connects");
        tcp.set_nodelay(true).expect("a TCP socket");
        let name = ServerName::from(addr.ip());
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("a TLS session");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.expect("speaks HTTP");
        tokio::spawn(connection.with_upgrades());
        Connection(sender)
    }

    /// Sends a request and returns the reply with its body still coming.
    pub async fn start(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> hyper::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path).header("host", "door");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.0.ready().await.expect("connected");
        self.0.send_request(request.body(Full::new(body.into())).expect("well formed")).await.expect("a reply")
    }

    /// Sends a request and reads the whole reply.
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let (head, body) = self.start(method, path, headers, body).await.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Reply { status: head.status, headers: head.headers, body }
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    /// Starts a watch.
    pub async fn watch(&mut self, path: &str, headers: &[(&str, &str)]) -> Frames {
        let response = self.start("GET", path, headers, "").await;
        assert_eq!(response.status(), 200);
        Frames { body: response.into_body(), buffer: BytesMut::new() }
    }
}

/// The frames of a watch.
pub struct Frames {
    body: Incoming,
    buffer: BytesMut,
}

impl Frames {
    /// The next frame; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(at + 1);
                return Some(serde_json::from_slice(&line).expect("a frame is JSON"));
            }
            let frame = self.body.frame().await?.expect("the stream ends cleanly");
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next frame of a protobuf stream, without its length.
    pub async fn delimited(&mut self) -> Option<Bytes> {
        loop {
            if let Some((length, rest)) = self.buffer.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    self.buffer.advance(4);
                    return Some(self.buffer.split_to(length).freeze());
                }
            }
            let frame = self.body.frame().await?.expect("the stream ends cleanly");
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// Reads on without decoding; the bytes that came, `None` at the end.
    pub async fn raw(&mut self) -> Option<Bytes> {
        self.body.frame().await?.ok()?.into_data().ok()
    }
}

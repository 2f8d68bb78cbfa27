//! A lean HTTP/1.1 client over TLS for load: one connection each, as the administrator of a kubeconfig.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use troupe_api::auth::{kubeconfig::Kubeconfig, tls};

/// Where and as whom to connect.
#[derive(Clone)]
pub struct Door {
    addr: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    token: Option<Arc<str>>,
}

impl Door {
    /// The cluster and user of a kubeconfig.
    pub fn of(kubeconfig: &Path) -> Self {
        let config = Kubeconfig::read(kubeconfig).expect("a kubeconfig");
        let addr = config.server.trim_start_matches("https://").parse().expect("an address with a port");
        let tls = tls::client_config(&config.ca_pem, Some(&config.identity)).expect("usable certificates");
        Door { addr, tls: Arc::new(tls), token: None }
    }

    /// A server of this address, as nobody.
    pub fn at(addr: SocketAddr, tls: rustls::ClientConfig) -> Self {
        Door { addr, tls: Arc::new(tls), token: None }
    }

    /// The cluster of a kubeconfig, as the bearer of a token or as nobody.
    pub fn without_certificate(kubeconfig: &Path, token: Option<&str>) -> Self {
        let config = Kubeconfig::read(kubeconfig).expect("a kubeconfig");
        let tls = tls::client_config(&config.ca_pem, None).expect("usable certificates");
        Door { tls: Arc::new(tls), token: token.map(Arc::from), ..Door::of(kubeconfig) }
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Connection {
        self.try_connect().await.expect("connects")
    }

    /// Opens a connection, unless the server will not have one more.
    pub async fn try_connect(&self) -> std::io::Result<Connection> {
        let tcp = tokio::net::TcpStream::connect(self.addr).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::from(self.addr.ip());
        let stream = tokio_rustls::TlsConnector::from(self.tls.clone()).connect(name, tcp).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Connection { sender, token: self.token.clone() })
    }

    /// Opens several.
    pub async fn connections(&self, count: usize) -> Vec<Connection> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(self.connect().await);
        }
        all
    }
}

/// One connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    token: Option<Arc<str>>,
}

impl Connection {
    /// Sends a request; the reply's body is still coming.
    pub async fn start(&mut self, method: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Response<Incoming> {
        self.sender.ready().await.expect("connected");
        self.sender.send_request(self.request(method, path, content_type, body)).await.expect("a reply")
    }

    fn request(&self, method: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path).header("host", "bench").header("content-type", content_type);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Full::new(body.into())).expect("well formed")
    }

    /// Sends a request and reads the whole reply, or as much of both as the server wants.
    pub async fn try_send(&mut self, method: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Result<StatusCode, hyper::Error> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(self.request(method, path, content_type, body)).await?.into_parts();
        body.collect().await?;
        Ok(head.status)
    }

    /// Sends a request and reads the whole reply.
    pub async fn send(&mut self, method: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
        let (head, body) = self.start(method, path, content_type, body).await.into_parts();
        (head.status, body.collect().await.expect("a whole body").to_bytes())
    }

    /// Sends JSON that must be accepted.
    pub async fn json(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> Bytes {
        let (status, body) = self.send(method, path, "application/json", body).await;
        assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        body
    }

    /// Reads what is at a path in a form.
    pub async fn accepting(&mut self, path: &str, accept: &str) -> Bytes {
        let mut request = self.request("GET", path, "", "");
        request.headers_mut().insert("accept", accept.parse().expect("a header"));
        self.sender.ready().await.expect("connected");
        let (head, body) = self.sender.send_request(request).await.expect("a reply").into_parts();
        assert!(head.status.is_success(), "GET {path}: {}", head.status);
        body.collect().await.expect("a whole body").to_bytes()
    }

    /// Reads a reply's body without keeping it; how many bytes it had.
    pub async fn drain(&mut self, path: &str) -> u64 {
        let mut body = self.start("GET", path, "application/json", "").await.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.expect("a whole body").data_ref().map_or(0, |data| data.len() as u64);
        }
        bytes
    }
}

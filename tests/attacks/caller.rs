//! Somebody who talks to the API server over HTTPS, byte by byte where an attack asks for it.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use serde_json::Value;
use troupe_api::auth::{kubeconfig::Kubeconfig, pki::KeyedCertificate, tls};

use crate::cluster::Cluster;

/// How long a reply may take before the caller gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A TLS session with the server.
pub type Session = StreamOwned<ClientConnection, TcpStream>;

/// Where to call, and as whom.
#[derive(Clone)]
pub struct Caller {
    namespace: PathBuf,
    addr: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// 0 when the server closed the connection without a word.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
    pub took: Duration,
}

impl Reply {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The message of a `Status`.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The texts of the Warning headers, each with its code and agent.
    pub fn warnings(&self) -> Vec<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.eq_ignore_ascii_case("warning"))
            .map(|(_, text)| text)
            .collect()
    }
}

impl Caller {
    fn of(cluster: &Cluster, identity: Option<&KeyedCertificate>, config: &Kubeconfig) -> Self {
        let addr = config.server.trim_start_matches("https://").parse().expect("an address with a port");
        let mut tls = tls::client_config(&config.ca_pem, identity).expect("usable certificates");
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Caller { namespace: format!("/run/netns/{}", cluster.namespace()).into(), addr, tls: Arc::new(tls), token: None }
    }

    /// The cluster's administrator.
    pub fn administrator(cluster: &Cluster) -> Self {
        let config = Kubeconfig::read(&cluster.kubeconfig()).expect("a kubeconfig");
        Caller::of(cluster, Some(&config.identity), &config)
    }

    /// Whoever can reach the port.
    pub fn nobody(cluster: &Cluster) -> Self {
        Caller::of(cluster, None, &Kubeconfig::read(&cluster.kubeconfig()).expect("a kubeconfig"))
    }

    /// Who holds a client certificate.
    pub fn with_certificate(cluster: &Cluster, identity: &KeyedCertificate) -> Self {
        Caller::of(cluster, Some(identity), &Kubeconfig::read(&cluster.kubeconfig()).expect("a kubeconfig"))
    }

    /// Who holds a bearer token.
    pub fn with_token(cluster: &Cluster, token: &str) -> Self {
        Caller { token: Some(token.to_owned()), ..Caller::nobody(cluster) }
    }

    /// A TCP connection, before anything is said.
    pub fn tcp(&self) -> std::io::Result<TcpStream> {
        let (namespace, addr) = (self.namespace.clone(), self.addr);
        // A thread of its own enters the namespace, so that this one stays outside; the connection stays where it was made.
        let connecting = std::thread::spawn(move || {
            let namespace = File::open(namespace).expect("the namespace exists");
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter it");
            TcpStream::connect_timeout(&addr, Duration::from_secs(10))
        });
        let stream = connecting.join().expect("the thread does not panic")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A TLS session over a connection of its own.
    pub fn session(&self) -> std::io::Result<Session> {
        let client = ClientConnection::new(self.tls.clone(), ServerName::from(self.addr.ip())).map_err(std::io::Error::other)?;
        Ok(StreamOwned::new(client, self.tcp()?))
    }

    /// The same with another protocol than HTTP/1.1.
    pub fn session_speaking(&self, protocol: &str) -> std::io::Result<Session> {
        let mut tls = rustls::ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Caller { tls: Arc::new(tls), ..self.clone() }.session()
    }

    /// The head of an HTTP/1.1 request as this caller, up to and with the empty line.
    pub fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: kubernetes\r\nAccept: application/json\r\n");
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// Sends a request over a connection of its own and reads the whole reply.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Reply {
        let (body, began) = (body.as_ref(), Instant::now());
        let length = body.len().to_string();
        let head = self.head(method, path, &[("Content-Type", content_type), ("Content-Length", &length), ("Connection", "close")]);
        let mut session = self.session().expect("the server takes connections");
        // A server that refuses early may close before all is written; its reply is there all the same.
        let _ = session.write_all(head.as_bytes()).and_then(|()| session.write_all(body)).and_then(|()| session.flush());
        reply(&rest(session), began.elapsed())
    }

    /// Sends JSON.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(method, path, "application/json", body.to_string())
    }

    /// Reads a path.
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "application/json", "")
    }
}

/// What comes until the server closes. The session's own way would first send what could not be sent, and miss the reply where that fails.
fn rest(mut session: Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        // It fails where nothing more is there yet.
        let _ = session.conn.reader().read_to_end(&mut bytes);
        // A close without a TLS goodbye is one too.
        let has_come = session.conn.read_tls(&mut session.sock).is_ok_and(|count| count > 0);
        if !has_come || session.conn.process_new_packets().is_err() {
            return bytes;
        }
    }
}

/// Takes a reply apart; a body in chunks is joined.
pub fn reply(bytes: &[u8], took: Duration) -> Reply {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let rest = bytes.get(split + 4..).unwrap_or_default();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(rest) } else { rest.to_vec() };
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Reply { status, head, body: String::from_utf8_lossy(&body).into_owned(), took }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
        let Some(chunk) = rest.get(line + 2..line + 2 + size).filter(|_| size > 0) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + size..).unwrap_or_default();
    }
    body
}

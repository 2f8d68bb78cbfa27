//! One HTTP/2 connection to one API server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use thiserror::Error;
use tokio::net::TcpStream;

use super::access::Address;

/// Requests at a time on one connection; servers take a hundred or more.
const STREAMS: usize = 90;
/// A server that is silent for so long is asked for a sign of life.
const PING: Duration = Duration::from_secs(3);
/// A connection that brings none for so long is given up: what it carries, watches above all, is replaced within ten seconds.
const DEAD: Duration = Duration::from_secs(6);
/// What may lie unread of one reply, and of all.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("dial tcp {0}: {1}")]
    Tcp(String, #[source] std::io::Error),
    #[error("{0:?} is no name that a certificate can carry")]
    Name(String),
    #[error("TLS with {0}: {1}")]
    Tls(String, #[source] std::io::Error),
    #[error("{0} does not speak HTTP/2")]
    Protocol(String),
    #[error("HTTP/2 with {0}: {1}")]
    Http(String, #[source] hyper::Error),
    #[error("dial tcp {0}: i/o timeout")]
    TimedOut(String),
    #[error("the thread that connects is gone")]
    Runtime,
}

/// See the module. Closed when the last lease and the pool have dropped it.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    /// Of the access it was opened with.
    pub generation: u64,
    pub shows_certificate: bool,
    streams: AtomicUsize,
    retired: AtomicBool,
}

/// The place of one request on a connection.
pub struct Lease(Arc<Connection>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// A request that got no reply.
pub enum SendFailure {
    /// It never left; sending it again is safe.
    NotSent(String),
    Lost(String),
}

impl Connection {
    /// Connects. Must run on the runtime that will drive the connection.
    pub async fn dial(
        address: &Address,
        server_name: Option<&str>,
        tls: Arc<ClientConfig>,
        generation: u64,
        shows_certificate: bool,
    ) -> Result<Self, DialError> {
        let authority = address.authority();
        let host = server_name.unwrap_or(&address.host).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| DialError::Name(host))?;
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|error| DialError::Tcp(authority.clone(), error))?;
        // A failure costs latency only.
        let _ = tcp.set_nodelay(true);
        let tls = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| DialError::Tls(authority.clone(), error))?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(DialError::Protocol(authority));
        }
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(DEAD).keep_alive_while_idle(true);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, driver) = builder.handshake(TokioIo::new(tls)).await.map_err(|error| DialError::Http(authority.clone(), error))?;
        let peer = authority.clone();
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(peer, %error, "the connection to the API server broke");
            }
        });
        Ok(Connection { sender, authority, generation, shows_certificate, streams: AtomicUsize::new(0), retired: AtomicBool::new(false) })
    }

    /// Whether new requests may go over it.
    pub fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.retired.load(Relaxed)
    }

    /// Lets what is in flight end and takes no more.
    pub fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// A place for one more request; `None` when all are taken.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        let taken = self.streams.fetch_update(Relaxed, Relaxed, |streams| (streams < STREAMS).then_some(streams + 1));
        taken.is_ok().then(|| Lease(self.clone()))
    }
}

impl Lease {
    pub fn connection(&self) -> &Connection {
        &self.0
    }

    /// Sends a request whose URI is only a path.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendFailure> {
        let uri = format!("https://{}{}", self.0.authority, request.uri());
        *request.uri_mut() = uri.parse().map_err(|error| SendFailure::NotSent(format!("{uri}: {error}")))?;
        let mut sender = self.0.sender.clone();
        if let Err(error) = sender.ready().await {
            return Err(SendFailure::NotSent(error.to_string()));
        }
        sender.try_send_request(request).await.map_err(|mut failed| {
            let unsent = failed.take_message().is_some();
            let error = failed.into_error();
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
            if unsent { SendFailure::NotSent(why) } else { SendFailure::Lost(why) }
        })
    }
}

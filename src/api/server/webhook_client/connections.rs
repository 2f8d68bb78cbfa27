//! Connections to one server that are kept, one question at a time on each. HTTP/1.1.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    client::conn::http1::{SendRequest, handshake},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ClientConfig as TlsConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::words;

/// How long a connection is kept that nobody uses, and how many.
const IDLE: Duration = Duration::from_secs(90);
const MOST_IDLE: usize = 25;
/// How long a connection may take to be free again after the answer.
const SETTLING: Duration = Duration::from_millis(50);

/// A connection.
pub type Connection = SendRequest<Full<Bytes>>;

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// It says that it is text, or does not say what it is.
    pub is_text: bool,
    pub body: Bytes,
}

fn is_text(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.is_empty() || kind.as_bytes().to_ascii_lowercase().starts_with(b"text/"))
}

/// See the module.
#[derive(Default)]
pub struct Connections {
    idle: Mutex<Vec<(Connection, Instant)>>,
}

impl Connections {
    /// Asks on a connection that was kept, or else on a new one. An answer of more than `longest` bytes is none.
    ///
    /// # Errors
    /// As upstream's client words it.
    pub async fn exchange<F>(&self, mut request: Request<Full<Bytes>>, longest: usize, dial: impl Fn() -> F) -> Result<Answer, String>
    where
        F: Future<Output = Result<Connection, String>>,
    {
        let (mut connection, reply) = loop {
            let kept = self.take();
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => dial().await?,
            };
            match connection.ready().await {
                Ok(()) => {}
                Err(_) if is_kept => continue,
                Err(error) => return Err(told(&error)),
            }
            match connection.try_send_request(request).await {
                Ok(reply) => break (connection, reply),
                Err(mut failed) => match failed.take_message().filter(|_| is_kept) {
                    // The connection was closed while nobody used it: nothing left, so it is sent again.
                    Some(unsent) => request = unsent,
                    None => return Err(told(&failed.into_error())),
                },
            }
        };
        let (status, is_text) = (reply.status(), is_text(reply.headers()));
        let body = Limited::new(reply.into_body(), longest).collect().await.map_err(|error| error.to_string())?.to_bytes();
        // A server that answered before it read the whole question is not waited for.
        if tokio::time::timeout(SETTLING, connection.ready()).await.is_ok_and(|ready| ready.is_ok()) {
            self.keep(connection);
        }
        Ok(Answer { status, is_text, body })
    }

    /// A connection that was kept.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some((connection, since)) = idle.pop() {
            if !connection.is_closed() && since.elapsed() < IDLE {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        idle.retain(|(connection, since)| !connection.is_closed() && since.elapsed() < IDLE);
        if idle.len() < MOST_IDLE {
            idle.push((connection, Instant::now()));
        }
    }
}

/// Connects to the first of the addresses that answers; with the name of the server, over TLS.
///
/// # Errors
/// As a client that dials tells it.
pub async fn connect(addresses: &[SocketAddr], tls: Option<(String, Arc<TlsConfig>)>) -> Result<Connection, String> {
    let mut why = String::new();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => return speak(tcp, tls).await,
            Err(error) => why = format!("dial tcp {address}: connect: {}", words::of_socket(&error)),
        }
    }
    Err(why)
}

async fn speak(tcp: TcpStream, tls: Option<(String, Arc<TlsConfig>)>) -> Result<Connection, String> {
    // A failure costs latency only.
    let _ = tcp.set_nodelay(true);
    let Some((name, tls)) = tls else { return begin(TokioIo::new(tcp)).await };
    let name = ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is no host name"))?;
    let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| words::of_tls(&error))?;
    begin(TokioIo::new(stream)).await
}

async fn begin(stream: impl Read + Write + Unpin + Send + 'static) -> Result<Connection, String> {
    let (connection, driver) = handshake(stream).await.map_err(|error| told(&error))?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection broke");
        }
    });
    Ok(connection)
}

/// An error with what it comes from.
fn told(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

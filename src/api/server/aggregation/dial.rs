//! Opens connections to the servers of API services for hyper's client: TCP to an address that may be reached, then TLS.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{backends::may_reach, webhook_client::words};

/// A server has this long to accept and to shake hands.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the host and port of a URI.
#[derive(Clone)]
pub struct Dialer {
    pub tls: Arc<ClientConfig>,
    /// The name that the server's certificate must have.
    pub server_name: ServerName<'static>,
    pub loopback: bool,
}

impl tower_service::Service<Uri> for Dialer {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let address = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
            let timed = tokio::time::timeout(DIAL_TIMEOUT, dialer.connect(&address)).await;
            timed.unwrap_or_else(|_| Err(io::Error::other(format!("dial tcp {address}: i/o timeout"))))
        })
    }
}

impl Dialer {
    async fn connect(&self, address: &str) -> io::Result<Stream> {
        let failed = |why: &dyn std::fmt::Display| io::Error::other(format!("dial tcp {address}: {why}"));
        let found = lookup_host(address).await.map_err(|error| failed(&error))?;
        // A name may lead anywhere, so it is what it resolves to that is judged, and dialled.
        let allowed: Vec<SocketAddr> = found.filter(|found| may_reach(found.ip(), self.loopback)).collect();
        if allowed.is_empty() {
            return Err(failed(&"address not allowed"));
        }
        let tcp = TcpStream::connect(&*allowed).await.map_err(|error| failed(&format!("connect: {}", words::of_socket(&error))))?;
        // A failure costs latency only.
        let _ = tcp.set_nodelay(true);
        let connecting = TlsConnector::from(self.tls.clone()).connect(self.server_name.clone(), tcp).await;
        connecting.map(|stream| Stream(TokioIo::new(stream))).map_err(|error| io::Error::other(words::of_tls(&error)))
    }
}

/// A connection.
pub struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

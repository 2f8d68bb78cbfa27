//! The listening server: TLS, one task a connection.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Body;

/// A client has this long for the TLS handshake, and again for each request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// After a failed accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers a request of a client with this certificate, if it has one.
pub type Handler = Arc<dyn Fn(Request<Incoming>, Option<Arc<[u8]>>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// A running server. Dropping the handle leaves it running.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    addr: SocketAddr,
    stopping: CancellationToken,
}

impl ServerHandle {
    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more connections and ends those that are there. Upgraded streams go on until an end closes.
    pub fn stop(&self) {
        self.stopping.cancel();
    }
}

/// Serves on `listener` until stopped. Must be called within a tokio runtime.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(listener: std::net::TcpListener, tls: &rustls::ServerConfig, handler: Handler) -> io::Result<ServerHandle> {
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let listener = TcpListener::from_std(listener)?;
    let stopping = CancellationToken::new();
    let mut tls = tls.clone();
    // Upgrades need HTTP/1.1.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let handle = ServerHandle { addr, stopping: stopping.clone() };
    tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), handler, stopping));
    Ok(handle)
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, handler: Handler, stopping: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((tcp, _)) => {
                let serving = connection(tcp, tls.clone(), handler.clone());
                let stopped = stopping.clone().cancelled_owned();
                tokio::spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = stopped => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, tls: TlsAcceptor, handler: Handler) {
    // A failure costs latency only.
    let _ = tcp.set_nodelay(true);
    let stream = match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS session"),
        Err(_) => return tracing::debug!("a client was too slow with TLS"),
    };
    let certificate: Option<Arc<[u8]>> =
        stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|certificate| Arc::from(certificate.as_ref()));
    let service = service_fn(move |request| {
        let answer = handler(request, certificate.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection broke");
    }
}

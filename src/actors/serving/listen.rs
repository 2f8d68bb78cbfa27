//! The listening server: TLS, one task a connection.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use troupe_api::{Status, service::UserInfo};
use troupe_api_server::http::{
    connections::{Connection, Connections, Metered, Work},
    handshakes::Handshakes,
};

use super::Body;

/// A client has this long for each request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests' heads are no longer than this.
const LONGEST_HEAD: usize = 128 << 10;
/// After a failed accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers a request of a client with this certificate, if it has one.
pub type Handler = Arc<dyn Fn(Request<Incoming>, Option<Arc<[u8]>>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Where a request came from; servers find it among the request's extensions.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    connections: Connections,
}

impl Client {
    /// When the client has left, or its connection is ended.
    pub async fn gone(&self) {
        self.connection.gone().await;
    }

    /// The request came from `user`.
    ///
    /// # Errors
    /// 429 when that user has too many connections.
    pub fn identified(&self, user: &UserInfo) -> Result<(), Status> {
        self.connections.identified(&self.connection, user)
    }
}

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
    tokio::spawn(accept(listener, Arc::new(tls), handler, stopping));
    Ok(handle)
}

async fn accept(listener: TcpListener, tls: Arc<rustls::ServerConfig>, handler: Handler, stopping: CancellationToken) {
    let (connections, handshakes) = (Connections::default(), Handshakes::default());
    tokio::spawn(connections.clone().watch(stopping.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let admitted = connections.admit(peer.ip());
                let client = Client { connection: admitted.connection.clone(), connections: connections.clone() };
                let (tls, handshakes, handler) = (tls.clone(), handshakes.clone(), handler.clone());
                let stopped = stopping.clone().cancelled_owned();
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(tcp, tls, &handshakes, handler, client.clone()) => {}
                        () = client.connection.ended() => {}
                        () = stopped => {}
                    }
                    drop(admitted);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, tls: Arc<rustls::ServerConfig>, handshakes: &Handshakes, handler: Handler, client: Client) {
    // A failure costs latency only.
    let _ = tcp.set_nodelay(true);
    let Some(stream) = Box::pin(handshakes.shake(tcp, tls)).await else { return };
    let certificate: Option<Arc<[u8]>> =
        stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|certificate| Arc::from(certificate.as_ref()));
    if certificate.is_some() {
        client.connections.vouched(&client.connection);
    }
    let stream = Metered::new(stream, client.connection.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (work, connection) = (client.connection.begin(), client.connection.clone());
        request.extensions_mut().insert(client.clone());
        let answer = handler(request, certificate.clone());
        async move {
            let response = answer.await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                connection.upgrade();
            }
            Ok::<_, Infallible>(response.map(|body| lasting(body, work)))
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(LONGEST_HEAD);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection broke");
    }
}

/// A body whose connection is at work until it ends.
fn lasting(body: Body, work: Work) -> Body {
    let kept = move |frame| {
        let _work = &work;
        frame
    };
    body.map_frame(kept).boxed_unsync()
}

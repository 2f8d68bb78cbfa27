//! The listening server: workers, TLS, connection identity, shutdown.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_http::{HttpService, Protocol, Request, error::DispatchError};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service, map_config};
use actix_web::{
    App, HttpResponse,
    body::BoxBody,
    dev::{AppConfig, Extensions, Server, ServerHandle, ServiceResponse},
    http::KeepAlive,
    rt::net::TcpStream,
    web,
};
use thiserror::Error;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use troupe_api::{encodings::Encodings, features::API_RESPONSE_COMPRESSION};

use super::{
    connections::{Connection, Connections, Metered},
    discovery::Discovery,
    handler,
    handshakes::Handshakes,
    health, http2,
    identity::PeerCertificate,
    limits::{Bodies, InFlight},
    openapi::OpenApi,
    options::HttpOptions,
    sessions,
    shared::Shared,
    slices,
    upgrade_io::UpgradeIo,
};
use crate::underway::Underway;

/// Idle connections are closed after this time.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// A client has this long to send its first request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A client whose body is not wanted has this long to read why, as with Go's server.
const LINGER: Duration = Duration::from_millis(500);
/// How often the server is asked whether it is ready, until it is.
const READY_LOOK: Duration = Duration::from_millis(500);
/// Stopping waits this long for requests in work.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// And this long for the last replies to be written.
const FLUSH: Duration = Duration::from_millis(100);

/// Why the server does not run.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("the listener has no address")]
    Address(#[source] io::Error),
    #[error("cannot listen")]
    Listen(#[source] io::Error),
}

/// A running server. Dropping the handle leaves it running.
#[derive(Clone, Debug)]
pub struct HttpServerHandle {
    addr: SocketAddr,
    server: ServerHandle,
    stopping: CancellationToken,
    /// Cancelled when connections go, too.
    closing: CancellationToken,
    retry_after_while_stopping: bool,
    in_flight: InFlight,
}

impl HttpServerHandle {
    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends watches, waits a moment for other requests, and stops. Clients that keep idle HTTP/2 connections open are not
    /// waited for.
    pub async fn stop(&self) {
        self.stopping.cancel();
        if !self.retry_after_while_stopping {
            self.close().await;
        }
        let quiet = async {
            while self.in_flight.now() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Who is still at work then is cut off.
        let _ = tokio::time::timeout(SHUTDOWN, quiet).await;
        if self.retry_after_while_stopping {
            self.close().await;
        }
        tokio::time::sleep(FLUSH).await;
        self.server.stop(false).await;
    }

    /// Takes no more connections, and ends those that there are.
    async fn close(&self) {
        self.closing.cancel();
        self.server.pause().await;
    }
}

/// Serves on `listener` until stopped. Must be called within an actix system.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(listener: std::net::TcpListener, options: HttpOptions) -> Result<HttpServerHandle, ServeError> {
    let addr = listener.local_addr().map_err(ServeError::Address)?;
    let workers = options.workers.max(1);
    let (stopping, closing) = (CancellationToken::new(), CancellationToken::new());
    let retry_after_while_stopping = options.retry_after_while_stopping;
    let shared = web::Data::new(Shared {
        discovery: Discovery::default(),
        openapi: Arc::new(OpenApi::new(options.openapi.clone())),
        in_flight: InFlight::new(options.max_in_flight),
        bodies: Bodies::default(),
        replies: slices::account(),
        watches: slices::account_of_watches(),
        sessions: sessions::account(),
        connections: Connections::default(),
        memos: Arc::new(Encodings::of_objects(options.memo_bytes)),
        lists: Underway::default(),
        stopping: stopping.clone(),
        closing: closing.clone(),
        compresses: options.features.is_on(API_RESPONSE_COMPRESSION),
        options,
    });
    let in_flight = shared.in_flight.clone();
    actix_web::rt::spawn(shared.connections.clone().watch(stopping.clone()));
    let (memory, timeout) = (shared.options.memory.clone(), shared.options.request_timeout);
    actix_web::rt::spawn(shared.lists.clone().watch(memory, timeout, stopping.clone()));
    if shared.options.openapi_ahead {
        actix_web::rt::spawn(make_openapi(shared.clone()));
    }
    let server =
        Server::build().workers(workers).disable_signals().listen("api", listener, move || worker(shared.clone())).map_err(ServeError::Listen)?.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(HttpServerHandle { addr, server: handle, stopping, closing, retry_after_while_stopping, in_flight })
}

/// Has the index of OpenAPI documents made once the server is ready, on a thread of its own. Who asks meanwhile waits for what is left of it.
async fn make_openapi(shared: web::Data<Shared>) {
    let stopping = shared.stopping.clone();
    let ready = async {
        while !health::is_ready(&shared.options.health).await {
            tokio::time::sleep(READY_LOOK).await;
        }
        shared.options.service.settled_registry().await
    };
    let registry = tokio::select! {
        () = stopping.cancelled() => return,
        registry = ready => registry,
    };
    let openapi = shared.openapi.clone();
    // Without it the first reader does the same.
    let _ = tokio::task::spawn_blocking(move || drop(openapi.document(&registry, ""))).await;
}

/// What one worker does with connections.
fn worker(shared: web::Data<Shared>) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = Infallible, InitError = ()> {
    // Both protocols have the same application.
    let app = |shared: web::Data<Shared>| {
        let app = App::new().app_data(shared).default_service(web::to(handler::handle));
        map_config(app.into_factory().map_err(|error: actix_web::Error| error.error_response()), |()| AppConfig::default())
    };
    let closing = shared.closing.clone();
    let http1 = HttpService::build()
        .graceful_shutdown_signal(move || closing.clone().cancelled_owned())
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(|io: &UpgradeIo<Socket>, data: &mut Extensions| drop(data.insert(io.inner().connection().clone())))
        .finish(app(shared.clone()));
    let http2 = app(shared.clone());
    fn_factory(move || {
        let (http1, http2, shared) = (http1.new_service(()), http2.new_service(()), shared.clone());
        async move {
            let (http1, http2) = (Rc::new(http1.await?), Rc::new(http2.await?));
            let handshakes = Handshakes::default();
            Ok(fn_service(move |tcp: TcpStream| {
                let (http1, http2, shared, handshakes) = (http1.clone(), http2.clone(), shared.clone(), handshakes.clone());
                async move {
                    // One that is gone by now comes from nowhere.
                    let from = tcp.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip().to_canonical());
                    let admitted = shared.connections.admit(from);
                    let connection = admitted.connection.clone();
                    tokio::select! {
                        biased;
                        () = connection.ended() => {}
                        () = serve_connection(tcp, (http1, http2), shared, &handshakes, &connection) => {}
                    }
                    Ok::<(), Infallible>(())
                }
            }))
        }
    })
}

/// A connection that keeps account of itself.
type Socket = Metered<TlsStream<TcpStream>>;

/// Shakes hands, then serves the protocol that was agreed on.
async fn serve_connection<H, A>(
    tcp: TcpStream,
    (http1, http2): (Rc<H>, Rc<A>),
    shared: web::Data<Shared>,
    handshakes: &Handshakes,
    connection: &Arc<Connection>,
) where
    H: Service<(UpgradeIo<Socket>, Protocol, Option<SocketAddr>), Response = (), Error = DispatchError>,
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = HttpResponse> + 'static,
{
    // A failure costs latency only.
    let _ = tcp.set_nodelay(true);
    let peer = tcp.peer_addr().ok();
    let called = tcp.local_addr().ok().and_then(|address| shared.options.tls_by_address.get(&address.ip().to_canonical()));
    let tls = called.unwrap_or(&shared.options.tls).clone();
    // What a phase needs is gone after it: thousands of connections do nothing but wait, in the memory that the largest phase has.
    let Some(tls) = Box::pin(handshakes.shake(tcp, tls)).await else { return };
    let (_, session) = tls.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    if let Some(chain) = session.peer_certificates().filter(|chain| !chain.is_empty()) {
        connection.show(PeerCertificate::new(chain.iter().map(|certificate| certificate.clone().into_owned()).collect()));
        shared.connections.vouched(connection);
    }
    let socket = Metered::new(tls, connection.clone());
    let ended = if is_http2 {
        let serving = http2::serve::<_, _, BoxBody>(socket, http2, connection.clone(), peer, shared.closing.clone());
        Box::pin(serving).await.map_err(|error| error.to_string())
    } else {
        http1.call((UpgradeIo::new(socket), Protocol::Http1, peer)).await.map_err(|error| error.to_string())
    };
    if let Err(why) = ended {
        tracing::debug!(why, "a connection broke");
    }
}

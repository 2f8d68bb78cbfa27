//! The listening server: workers, TLS, connection identity, shutdown.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_http::{HttpService, Protocol, error::DispatchError};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, map_config};
use actix_tls::accept::{
    TlsError,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{
    App,
    dev::{AppConfig, Extensions, Server, ServerHandle},
    http::KeepAlive,
    rt::net::TcpStream,
    web,
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::{
    discovery::Discovery, handler, identity::PeerCertificate, limits::InFlight, openapi::OpenApi, options::HttpOptions, upgrade_io::UpgradeIo,
};
use crate::memo::Encodings;

/// Idle connections are closed after this time.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// A client has this long to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
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

/// What every worker shares.
pub struct Shared {
    pub options: HttpOptions,
    pub discovery: Discovery,
    pub openapi: Arc<OpenApi>,
    pub in_flight: InFlight,
    pub memos: Arc<Encodings>,
    /// Cancelled when the server stops: ends watches.
    pub stopping: CancellationToken,
}

/// A running server. Dropping the handle leaves it running.
#[derive(Clone, Debug)]
pub struct HttpServerHandle {
    addr: SocketAddr,
    server: ServerHandle,
    stopping: CancellationToken,
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
        self.server.pause().await;
        let quiet = async {
            while self.in_flight.now() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Who is still at work then is cut off.
        let _ = tokio::time::timeout(SHUTDOWN, quiet).await;
        tokio::time::sleep(FLUSH).await;
        self.server.stop(false).await;
    }
}

/// Serves on `listener` until stopped. Must be called within an actix system.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(listener: std::net::TcpListener, options: HttpOptions) -> Result<HttpServerHandle, ServeError> {
    let addr = listener.local_addr().map_err(ServeError::Address)?;
    let tls = rustls::ServerConfig::clone(&options.tls);
    let workers = options.workers.max(1);
    let stopping = CancellationToken::new();
    let shared = web::Data::new(Shared {
        discovery: Discovery::default(),
        openapi: Arc::new(OpenApi::new(options.openapi.clone())),
        in_flight: InFlight::new(options.max_in_flight),
        memos: Arc::new(Encodings::of_objects(options.memo_bytes)),
        stopping: stopping.clone(),
        options,
    });
    let (ending, in_flight) = (stopping.clone(), shared.in_flight.clone());
    let server = Server::build()
        .workers(workers)
        .disable_signals()
        .listen("api", listener, move || over_tls(tls.clone(), service(shared.clone(), ending.clone())))
        .map_err(ServeError::Listen)?
        .run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(HttpServerHandle { addr, server: handle, stopping, in_flight })
}

/// The HTTP service of one worker.
fn service(
    shared: web::Data<Shared>,
    stopping: CancellationToken,
) -> impl ServiceFactory<(UpgradeIo, Protocol, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let app = App::new().app_data(shared).default_service(web::to(handler::handle));
    let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
    HttpService::build()
        .graceful_shutdown_signal(move || stopping.clone().cancelled_owned())
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .client_request_timeout(HEAD_TIMEOUT)
        .on_connect_ext(remember_peer)
        .finish(map_config(app, |()| AppConfig::default()))
}

/// Accepts TLS, then passes connections on with the protocol that was agreed on.
fn over_tls<S>(
    tls: rustls::ServerConfig,
    http: S,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = TlsError<io::Error, DispatchError>, InitError = ()>
where
    S: ServiceFactory<(UpgradeIo, Protocol, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()>,
{
    Acceptor::new(tls)
        .map_init_err(|_| ())
        .map_err(TlsError::into_service_error)
        .and_then(|stream: TlsStream<TcpStream>| async move {
            let (tcp, session) = stream.get_ref();
            let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
            let peer = tcp.peer_addr().ok();
            Ok((UpgradeIo::new(stream), protocol, peer))
        })
        .and_then(http.map_err(TlsError::Service))
}

/// Keeps the verified client certificate with its connection.
fn remember_peer(connection: &UpgradeIo, data: &mut Extensions) {
    let (tcp, session) = connection.tls().get_ref();
    // A failure costs latency only.
    let _ = tcp.set_nodelay(true);
    if let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) {
        data.insert(PeerCertificate::new(certificate.as_ref().to_vec()));
    }
}

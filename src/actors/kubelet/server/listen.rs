//! The listening server: TLS, one task a connection, dispatch.

use std::{convert::Infallible, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{Method, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use troupe_api::{http::streaming::LogOptions, metrics::CONTENT_TYPE};
use troupe_cri::Runtime;

use super::{
    authorize::{self, Gate},
    directory::{LookupError, PodDirectory, PodRef},
    documents::{self, Body, text},
    logs,
    route::Route,
    streams::{self, Purpose},
};
use crate::kubelet::{
    metrics::scrape,
    stats::{self, Sample},
};

/// A client has this long for the TLS handshake, and again for each request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// `/run` waits no longer for its command.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);
/// After a failed accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server needs.
#[derive(Clone)]
pub struct KubeletServerOptions {
    /// Asks clients for certificates and verifies those that come.
    pub tls: Arc<rustls::ServerConfig>,
    /// The node whose subresources requests are authorized as.
    pub node_name: Arc<str>,
    pub runtime: Arc<dyn Runtime>,
    pub pods: Arc<dyn PodDirectory>,
    pub gate: Arc<dyn Gate>,
}

impl fmt::Debug for KubeletServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeletServerOptions").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// A running server. Dropping the handle leaves it running.
#[derive(Clone, Debug)]
pub struct KubeletServerHandle {
    addr: SocketAddr,
    stopping: CancellationToken,
}

impl KubeletServerHandle {
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
pub fn serve(listener: std::net::TcpListener, options: KubeletServerOptions) -> io::Result<KubeletServerHandle> {
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let listener = TcpListener::from_std(listener)?;
    let stopping = CancellationToken::new();
    let mut tls = rustls::ServerConfig::clone(&options.tls);
    // Upgrades need HTTP/1.1.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let handle = KubeletServerHandle { addr, stopping: stopping.clone() };
    tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), Arc::new(options), stopping));
    Ok(handle)
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, options: Arc<KubeletServerOptions>, stopping: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((tcp, _)) => {
                let serving = connection(tcp, tls.clone(), options.clone());
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

async fn connection(tcp: TcpStream, tls: TlsAcceptor, options: Arc<KubeletServerOptions>) {
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
        let (options, certificate) = (options.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(handle(request, certificate.as_deref(), options).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn handle(request: Request<Incoming>, certificate: Option<&[u8]>, options: Arc<KubeletServerOptions>) -> Response<Body> {
    if let Err(refused) = authorize::admit(&request, certificate, &options.node_name, &*options.gate).await {
        return text(refused.code, refused.text);
    }
    let Some(route) = Route::of(request.uri().path()) else { return text(404, "404 page not found\n") };
    if !authorize::takes(request.method()) {
        return text(405, "405: Method Not Allowed");
    }
    dispatch(request, route, options).await
}

async fn dispatch(request: Request<Incoming>, route: Route, options: Arc<KubeletServerOptions>) -> Response<Body> {
    let KubeletServerOptions { runtime, pods, node_name, .. } = &*options;
    match route {
        Route::Logs { pod, container } => container_logs(&request, pods, &pod, &container).await,
        Route::Exec { pod, container } => streams::remote_command(request, runtime.clone(), pods.clone(), (pod, container), Purpose::Exec).await,
        Route::Attach { pod, container } => streams::remote_command(request, runtime.clone(), pods.clone(), (pod, container), Purpose::Attach).await,
        Route::PortForward { pod } => streams::port_forward(request, runtime.clone(), pods.clone(), pod).await,
        Route::Run { .. } if request.method() != Method::POST => text(405, "405: Method Not Allowed"),
        Route::Run { pod, container } => run(&request, &options, &pod, &container).await,
        Route::Pods | Route::RunningPods => documents::pod_list(&pods.pods().await),
        Route::Healthz => text(200, "ok"),
        Route::Metrics => {
            let text = scrape(node_name, pods.pods().await.len(), &**runtime).await;
            documents::document(200, CONTENT_TYPE, text)
        }
        Route::ResourceMetrics | Route::ContainerMetrics | Route::Summary => usage(&route, node_name, &**runtime).await,
    }
}

/// What containers and the node use.
async fn usage(route: &Route, node: &str, runtime: &dyn Runtime) -> Response<Body> {
    match (Sample::take(runtime).await, route) {
        (sample, Route::ResourceMetrics) => documents::document(200, CONTENT_TYPE, stats::resource(sample.as_ref().ok())),
        (Err(error), _) => text(500, error.to_string()),
        (Ok(sample), Route::ContainerMetrics) => documents::document(200, CONTENT_TYPE, stats::cadvisor(&sample)),
        (Ok(sample), _) => documents::document(200, "application/json", stats::summary(node, &sample).to_string()),
    }
}

async fn container_logs(request: &Request<Incoming>, pods: &Arc<dyn PodDirectory>, pod: &PodRef, container: &str) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let options = match LogOptions::parse(query, &pod.name) {
        Ok(options) => options,
        Err(status) if status.code == 422 => return text(422, r#"{"message": "Invalid request."}"#),
        Err(_) => return text(400, r#"{"message": "Unable to decode query."}"#),
    };
    let log = match pods.log(pod, container, options.previous).await {
        Ok(log) => log,
        Err(LookupError::NotFound(why)) => return text(404, why),
        Err(error) => return text(400, error.to_string()),
    };
    match logs::stream(log, options, pods.clone()).await {
        Ok(chunks) => documents::streaming(chunks),
        Err(error) => text(400, error.to_string()),
    }
}

/// Runs a command and answers with what it printed.
async fn run(request: &Request<Incoming>, options: &KubeletServerOptions, pod: &PodRef, container: &str) -> Response<Body> {
    let command = troupe_api::http::streaming::query_values(request.uri().query().unwrap_or_default(), "cmd").into_iter().next().unwrap_or_default();
    let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let id = match options.pods.container(pod, container).await {
        Ok(id) => id,
        Err(error) => return streams::failure(&error),
    };
    match options.runtime.exec_sync(&id, &command, RUN_TIMEOUT).await {
        Ok(output) if output.exit_code == 0 => documents::document(200, "application/json", [output.stdout, output.stderr].concat()),
        Ok(output) => text(500, format!("command terminated with exit code {}", output.exit_code)),
        Err(error) => text(500, error.to_string()),
    }
}

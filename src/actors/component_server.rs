//! The HTTPS server of a control plane without an API server: health, metrics and a look inside, as upstream's
//! controller manager and scheduler serve theirs at ports 10257 and 10259.

use std::{io, net::TcpListener, sync::Arc};

use hyper::{Method, Request, Response};
use troupe_api::{
    Status,
    auth::Attributes,
    metrics::{CONTENT_TYPE, health},
    status::Reason,
};

use crate::{
    insight,
    metrics::Sources,
    runtime::system::System,
    serving::{self, Body, Gate, Handler, Refused, ServerHandle, document, identify, text},
    zpages::{Asked, Zpages},
};

/// Where it answers beside the pages that say so.
pub const PATHS: [&str; 6] = ["/healthz", "/livez", "/metrics", "/readyz", "/flagz", insight::BELOW];
/// Answered to everybody: whoever starts the process again must learn how it is.
const OPEN: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// What the server needs.
#[derive(Clone)]
pub struct ComponentServerOptions {
    /// Asks clients for certificates and verifies those that come.
    pub tls: Arc<rustls::ServerConfig>,
    pub gate: Arc<dyn Gate>,
    pub system: System,
    pub metrics: Sources,
    pub zpages: Arc<Zpages>,
}

/// Serves on `listener` until stopped. Must be called within a tokio runtime.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(listener: TcpListener, options: ComponentServerOptions) -> io::Result<ServerHandle> {
    let (tls, options) = (options.tls.clone(), Arc::new(options));
    let handler: Handler = Arc::new(move |request, certificate| {
        let options = options.clone();
        Box::pin(async move { handle(&request, certificate.as_deref(), &options).await })
    });
    serving::serve(listener, &tls, handler)
}

async fn handle<B>(request: &Request<B>, certificate: Option<&[u8]>, options: &ComponentServerOptions) -> Response<Body> {
    let path = request.uri().path();
    if OPEN.contains(&path) {
        health::checked("ping", path.trim_start_matches('/'), true);
        return text(200, "ok");
    }
    if let Err(refused) = admit(request, certificate, &*options.gate).await {
        return document(refused.code, "application/json", refused.text);
    }
    match path {
        "/metrics" if request.method() == Method::GET => document(200, CONTENT_TYPE, options.metrics.scrape()),
        "/metrics/resources" if request.method() == Method::GET => match options.metrics.resources().await {
            Some(page) => document(200, CONTENT_TYPE, page),
            None => text(404, "404 page not found\n"),
        },
        "/metrics/slis" if request.method() == Method::GET => document(200, CONTENT_TYPE, health::slis()),
        path if path.starts_with(insight::BELOW) => insight::answer(&options.system, request).await,
        _ if request.method() == Method::GET => options.zpages.respond(&Asked::of(request)).unwrap_or_else(|| text(404, "404 page not found\n")),
        _ => text(404, "404 page not found\n"),
    }
}

/// Lets a request in that is authenticated and allowed to use its path.
async fn admit<B>(request: &Request<B>, certificate: Option<&[u8]>, gate: &dyn Gate) -> Result<(), Refused> {
    let refused = |status: Status| Refused { code: status.code, text: status.to_text() };
    let user = identify(request, certificate, gate).await.map_err(|_| refused(Status::unauthorized()))?;
    let (verb, path) = (request.method().as_str().to_ascii_lowercase(), request.uri().path());
    if gate.allows(&user, &Attributes { verb: &verb, path: Some(path), ..Attributes::default() }).await {
        return Ok(());
    }
    let why = format!("forbidden: User \"{}\" cannot {verb} path \"{path}\"", user.name);
    Err(refused(Status::new(403, Reason::Forbidden, why)))
}

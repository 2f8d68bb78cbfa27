//! What the binary hands to the front door: identity, service, checks and extra routes.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::http::Method;
use bytes::Bytes;
use futures::future::BoxFuture;
use troupe_api::{
    auth::{Authenticator, Authorizer, request_header::RequestHeaders},
    features::FeatureGates,
    memory::{AmpleMemory, MemoryGauge},
    meta::{Clock, SystemClock},
    service::{ApiService, UserInfo},
    spans::Tracer,
    status::Status,
    version::VersionInfo,
};

use super::{connect::Connect, cors::AllowedOrigins};
use crate::{
    aggregation::Aggregator,
    audit::AuditLog,
    flow::Classifier,
    openapi::{BuiltinOpenApi, OpenApiSource},
};

/// Everything a front door needs.
#[derive(Clone)]
pub struct HttpOptions {
    /// Asks clients for certificates and verifies those that come.
    pub tls: Arc<rustls::ServerConfig>,
    /// The same for connections to some addresses of the server.
    pub tls_by_address: BTreeMap<IpAddr, Arc<rustls::ServerConfig>>,
    pub service: Arc<dyn ApiService>,
    pub authenticator: Arc<dyn Authenticator>,
    /// Tells front proxies, who say for whom they call, from clients; without it there are none.
    pub request_headers: Option<Arc<RequestHeaders>>,
    pub authorizer: Arc<dyn Authorizer>,
    /// Servers that answer for groups of their own, if there may be some.
    pub aggregator: Option<Arc<Aggregator>>,
    pub version: VersionInfo,
    /// Worker threads.
    pub workers: usize,
    /// `host:port` that `/api` tells clients.
    pub advertise: String,
    /// Requests without credentials are `system:anonymous` instead of 401.
    pub anonymous: bool,
    /// The only paths of which such are taken, where there is a choice.
    pub anonymous_paths: Option<Vec<String>>,
    /// Asked after `ping`, in this order.
    pub health: Vec<HealthCheck>,
    pub openapi: Option<Arc<dyn OpenApiSource>>,
    /// Whether the index of OpenAPI documents is made once the server is ready, so that its first reader need not wait.
    pub openapi_ahead: bool,
    /// Serves exec, attach, portforward, log and proxy; without it they are 501.
    pub connect: Option<Arc<dyn Connect>>,
    /// Paths outside the API, authorized like any non-resource path: `/metrics`, `/openid/v1/jwks`, debugging.
    pub routes: Vec<ExtraRoute>,
    pub clock: Arc<dyn Clock>,
    /// Tells flow schemas and priority levels; without it no request has any.
    pub flow: Option<Arc<Classifier>>,
    /// Where requests are recorded, if anywhere.
    pub audit: Option<Arc<AuditLog>>,
    /// Makes spans of requests, if that is wanted.
    pub tracer: Option<Tracer>,
    /// Requests at once that flow control does not know, watches and connects not counted; 0 means no limit.
    pub max_in_flight: usize,
    /// Bytes that encodings beside JSON may hold in all.
    pub memo_bytes: usize,
    /// After this a request that is no watch or connect is answered 504.
    pub request_timeout: Duration,
    /// While it says that memory is short, lists may take moments only.
    pub memory: Arc<dyn MemoryGauge>,
    /// A watch without `timeoutSeconds` lasts between this and twice this.
    pub min_watch_timeout: Duration,
    /// How likely a request over HTTP/2 is the last one of its connection, so that clients do not stay with one server of several.
    pub goaway_chance: f64,
    /// What every answer says as `Strict-Transport-Security`, if anything.
    pub strict_transport_security: Option<String>,
    /// Origins whose pages browsers let use the server; without them none but its own.
    pub cors: Option<Arc<AllowedOrigins>>,
    /// Whether the server goes on to listen while it stops, and tells new requests to come again, until those in work are done.
    pub retry_after_while_stopping: bool,
    /// The features that are on.
    pub features: FeatureGates,
}

impl HttpOptions {
    /// Whether a request without credentials is taken.
    pub fn takes_anonymous(&self, path: &str) -> bool {
        self.anonymous && self.anonymous_paths.as_ref().is_none_or(|paths| paths.iter().any(|allowed| allowed == path))
    }

    /// Options with upstream's limits and the built-in kinds' OpenAPI; no health checks, routes or connect.
    pub fn new(
        tls: Arc<rustls::ServerConfig>,
        service: Arc<dyn ApiService>,
        authenticator: Arc<dyn Authenticator>,
        authorizer: Arc<dyn Authorizer>,
        version: VersionInfo,
    ) -> Self {
        HttpOptions {
            tls,
            tls_by_address: BTreeMap::new(),
            service,
            authenticator,
            request_headers: None,
            authorizer,
            aggregator: None,
            version,
            workers: 2,
            advertise: "127.0.0.1:6443".to_owned(),
            anonymous: true,
            anonymous_paths: None,
            health: Vec::new(),
            openapi: Some(Arc::new(BuiltinOpenApi)),
            openapi_ahead: false,
            connect: None,
            routes: Vec::new(),
            clock: Arc::new(SystemClock),
            memory: Arc::new(AmpleMemory),
            flow: None,
            audit: None,
            tracer: None,
            max_in_flight: 600,
            memo_bytes: 32 << 20,
            request_timeout: Duration::from_secs(60),
            min_watch_timeout: Duration::from_secs(1800),
            goaway_chance: 0.0,
            strict_transport_security: None,
            cors: None,
            retry_after_while_stopping: false,
            features: FeatureGates::default(),
        }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions").field("workers", &self.workers).field("advertise", &self.advertise).finish_non_exhaustive()
    }
}

/// Which of `/healthz`, `/livez` and `/readyz` run a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthGroups {
    pub healthz: bool,
    pub livez: bool,
    pub readyz: bool,
}

impl HealthGroups {
    pub const ALL: HealthGroups = HealthGroups { healthz: true, livez: true, readyz: true };
    /// Not being ready is no reason to restart.
    pub const READY_ONLY: HealthGroups = HealthGroups { healthz: false, livez: false, readyz: true };
}

/// One named health check.
#[derive(Clone)]
pub struct HealthCheck {
    pub name: &'static str,
    pub groups: HealthGroups,
    /// Answers in a few seconds. The error text is logged, and shown to whoever may ask for this check alone.
    pub check: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl HealthCheck {
    pub fn new<F>(name: &'static str, groups: HealthGroups, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        HealthCheck { name, groups, check: Arc::new(move || Box::pin(check())) }
    }
}

/// A whole reply of an extra route.
#[derive(Clone, Debug)]
pub struct RawReply {
    pub content_type: &'static str,
    pub body: Bytes,
    /// What a `Warning` header says beside it.
    pub warning: Option<&'static str>,
    /// Of which version of its API group the document is, if of one: requests for such pages are counted by it.
    pub version: Option<&'static str>,
    /// What `Cache-Control` says; nobody may keep what says nothing.
    pub caching: Option<&'static str>,
}

impl RawReply {
    /// One that says no more than its body.
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        RawReply { content_type, body: body.into(), warning: None, version: None, caching: None }
    }
}

/// A request to an extra route.
#[derive(Clone, Debug)]
pub struct RawRequest {
    /// The whole path.
    pub path: String,
    /// The query string, undecoded.
    pub query: String,
    /// These headers, empty for none.
    pub accept: String,
    pub user_agent: String,
    pub user: Arc<UserInfo>,
}

/// Answers an extra route.
pub type RawHandler = Arc<dyn Fn(RawRequest) -> BoxFuture<'static, Result<RawReply, Status>> + Send + Sync>;

/// A route outside the API: for GET, or for POST when it does something.
#[derive(Clone)]
pub struct ExtraRoute {
    /// The exact path, or every path below it when it ends with `/`.
    pub path: &'static str,
    pub handler: RawHandler,
    /// It does something: POST instead of GET, so that no right to look is enough.
    pub acts: bool,
}

impl ExtraRoute {
    /// A route whose reply is made at once.
    pub fn document(path: &'static str, content_type: &'static str, make: impl Fn() -> Bytes + Send + Sync + 'static) -> Self {
        Self::cached(path, content_type, None, make)
    }

    /// The same with what `Cache-Control` says.
    pub fn cached(
        path: &'static str,
        content_type: &'static str,
        caching: Option<&'static str>,
        make: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> Self {
        let handler: RawHandler = Arc::new(move |_| {
            let reply = RawReply { caching, ..RawReply::new(content_type, make()) };
            Box::pin(std::future::ready(Ok(reply)))
        });
        ExtraRoute { path, handler, acts: false }
    }

    pub(super) fn takes(&self, method: &Method) -> bool {
        if self.acts { *method == Method::POST } else { matches!(*method, Method::GET | Method::HEAD) }
    }

    pub(super) fn serves(&self, path: &str) -> bool {
        if self.path.ends_with('/') { path.starts_with(self.path) } else { path == self.path }
    }
}

/// A front door bound to this socket; port 0 lets the system choose.
pub fn bind(addr: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

//! The connections to one server: kept, reused, and as many as requests are under way.
//!
//! HTTP/1.1, because requests spread over the addresses behind a Service then, a watch stands in no other request's way, and upgrades need it.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, pki_types::ServerName};
use thiserror::Error as ThisError;
use tokio::sync::OnceCell;
use troupe_api::{
    auth::{
        any_peer,
        request_header::headers_of,
        tls::{self, RenewableCertificate},
    },
    service::{Listers, UserInfo},
    status::{Reason, Status},
};

use super::{
    ApiServiceSpec, ServiceReference,
    dial::Dialer,
    endpoints::{Endpoints, Place},
};
use crate::informational::{self, Informational};

/// Connections that are kept to one address while nobody uses them, and how long.
const MOST_IDLE: usize = 64;
const IDLE: Duration = Duration::from_secs(90);

/// The body of a request on its way.
pub type OutgoingBody = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there.
pub fn whole(bytes: Bytes) -> OutgoingBody {
    if bytes.is_empty() {
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    } else {
        Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
    }
}

/// Why there is no answer. Reads as what clients see.
#[derive(Debug, ThisError)]
pub enum BackendError {
    /// There is nowhere to go.
    #[error("{0}")]
    Nowhere(String),
    /// The connection cannot be made secure.
    #[error("{0}")]
    Tls(String),
    #[error("error trying to reach service: {0}")]
    Unreachable(String),
    #[error("error trying to reach service: context deadline exceeded")]
    TimedOut,
    /// Nobody is asked.
    #[error("this API server runs in safe mode and asks no other server: delete the APIService, or start the cluster as usual")]
    Paused,
}

impl From<&BackendError> for Status {
    fn from(error: &BackendError) -> Self {
        match error {
            BackendError::Nowhere(_) => Status::unavailable("service unavailable"),
            BackendError::Tls(why) => Status::new(500, Reason::InternalError, why.clone()),
            other => Status::unavailable(other.to_string()),
        }
    }
}

/// What all backends of a process share.
#[derive(Clone)]
pub struct BackendOptions {
    pub listers: Arc<dyn Listers>,
    /// This server's certificate as a front proxy; without one it shows none, and servers that follow upstream's do not believe who calls.
    pub identity: Arc<RenewableCertificate>,
    /// Lets servers be on this machine's own addresses, which a cluster's server must not reach: for tests.
    pub loopback: bool,
    /// No server is asked anything: what is stored can be put right whatever they do.
    pub paused: bool,
}

/// A server.
pub struct Backend {
    reference: ServiceReference,
    options: BackendOptions,
    spec: Arc<ApiServiceSpec>,
    endpoints: Endpoints,
    /// Made for the first request.
    client: OnceCell<Result<Client<Dialer, OutgoingBody>, String>>,
}

/// A whole answer.
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("reference", &self.reference).finish_non_exhaustive()
    }
}

impl Backend {
    /// The server of an API service, which is behind `reference`.
    pub fn new(spec: Arc<ApiServiceSpec>, reference: ServiceReference, options: BackendOptions) -> Self {
        Backend { reference, options, spec, endpoints: Endpoints::default(), client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&Client<Dialer, OutgoingBody>, BackendError> {
        let client = self.client.get_or_init(|| self.make_client()).await;
        client.as_ref().map_err(|why| BackendError::Tls(why.clone()))
    }

    async fn make_client(&self) -> Result<Client<Dialer, OutgoingBody>, String> {
        let (spec, identity) = (self.spec.clone(), self.options.identity.clone());
        // Whom the system trusts is read from its disk.
        let made = tokio::task::spawn_blocking(move || tls_config(&spec, identity)).await.map_err(|error| error.to_string())?;
        let tls = made.map_err(|error| format!("unable to load root certificates: {error}"))?;
        let host = format!("{}.{}.svc", self.reference.name, self.reference.namespace);
        let server_name = ServerName::try_from(host.clone()).map_err(|_| format!("{host:?} is no host name"))?;
        Ok(client(Dialer { tls: Arc::new(tls), server_name, loopback: self.options.loopback }))
    }

    pub fn reference(&self) -> &ServiceReference {
        &self.reference
    }

    /// Whether it may be asked at all.
    ///
    /// # Errors
    /// [`BackendError::Paused`] where nobody is.
    pub fn open(&self) -> Result<(), BackendError> {
        if self.options.paused { Err(BackendError::Paused) } else { Ok(()) }
    }

    /// `host:port` of where a request may go now.
    ///
    /// # Errors
    /// In upstream's words, why there is nowhere to go.
    pub fn authority(&self) -> Result<String, BackendError> {
        match self.endpoints.find(&*self.options.listers, &self.reference, self.options.loopback).map_err(BackendError::Nowhere)? {
            Place::Addresses(addresses) => Ok(addresses[rand::random_range(0..addresses.len())].to_string()),
            Place::Host { name, port } => Ok(format!("{name}:{port}")),
        }
    }

    /// Sends a request whose URI is a path, as `user`, to `authority`; the beginning of the answer.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn send(&self, authority: &str, user: &UserInfo, mut request: Request<OutgoingBody>) -> Result<Response<Incoming>, BackendError> {
        self.open()?;
        let client = self.client().await?;
        let told = headers_of(user).map_err(|status| BackendError::Tls(status.message))?;
        request.headers_mut().extend(told);
        request.headers_mut().remove(header::HOST);
        let unusable = |error: &dyn fmt::Display| BackendError::Unreachable(error.to_string());
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(authority.parse().map_err(|error| unusable(&error))?);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| unusable(&error))?;
        let informational = Informational::of(&mut request);
        tokio::select! {
            biased;
            reply = client.request(request) => reply.map_err(|error| BackendError::Unreachable(innermost(&error))),
            () = informational.too_many() => Err(BackendError::Unreachable(informational::TOO_MANY.into())),
        }
    }

    /// Asks as `user` and reads the whole answer, of `longest` bytes at most, within `timeout`.
    ///
    /// # Errors
    /// When nobody answers, or too slowly, or too much.
    pub async fn ask(&self, user: &UserInfo, request: Request<OutgoingBody>, longest: usize, timeout: Duration) -> Result<Answer, BackendError> {
        let authority = self.authority()?;
        self.ask_at(&authority, user, request, longest, timeout).await
    }

    /// The same at an address that [`Backend::authority`] gave.
    ///
    /// # Errors
    /// As those of [`Backend::ask`].
    pub async fn ask_at(
        &self,
        authority: &str,
        user: &UserInfo,
        request: Request<OutgoingBody>,
        longest: usize,
        timeout: Duration,
    ) -> Result<Answer, BackendError> {
        let asking = async {
            let (head, body) = self.send(authority, user, request).await?.into_parts();
            let body = Limited::new(body, longest).collect().await.map_err(|error| BackendError::Unreachable(error.to_string()))?;
            Ok(Answer { code: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(timeout, asking).await.map_err(|_| BackendError::TimedOut)?
    }
}

fn client(dialer: Dialer) -> Client<Dialer, OutgoingBody> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_max_idle_per_host(MOST_IDLE).pool_idle_timeout(IDLE);
    builder.build(dialer)
}

fn tls_config(spec: &ApiServiceSpec, identity: Arc<RenewableCertificate>) -> Result<ClientConfig, tls::TlsError> {
    let mut config = if spec.insecure {
        (*any_peer()).clone()
    } else if spec.authorities.is_empty() {
        tls::system_client_config()?
    } else {
        tls::anchored_client_config(&String::from_utf8_lossy(&spec.authorities), None)?
    };
    config.client_auth_cert_resolver = identity;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What an error comes from in the end: the client's own words say little.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

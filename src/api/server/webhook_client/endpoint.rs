//! A webhook that a kubeconfig names: for tokens, rights and records.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use troupe_api::auth::tls;
use troupe_api_client::remote::{Access, AccessError};

use super::{
    client::refused,
    connections::{Answer, Connection, Connections},
    fetch::{self, Url},
};

/// How often a question is put that was not answered, and the pause before the second time.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Why a kubeconfig is of no use.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{0}")]
    Url(String),
}

/// See the module. Shared by all requests.
pub struct Endpoint {
    url: Url,
    shown: String,
    name: String,
    tls: Arc<ClientConfig>,
    bearer: Option<HeaderValue>,
    /// Where connections are driven, whichever thread asked for them.
    home: Handle,
    connections: Connections,
}

impl Endpoint {
    /// The server of a kubeconfig's current context, with the credentials there. Connections live on the runtime of the caller.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn of_kubeconfig(path: &Path) -> Result<Self, EndpointError> {
        let (access, _) = Access::read(path)?;
        let server = access.servers.first().cloned().unwrap_or_default();
        let url = Url::parse(&server).map_err(EndpointError::Url)?;
        let tls = tls::anchored_client_config(&access.ca_pem, access.certificate.as_ref()).map_err(AccessError::Tls)?;
        let bearer = access.token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose();
        let mut bearer = bearer.map_err(|_| EndpointError::Url("the token is no header text".into()))?;
        if let Some(bearer) = &mut bearer {
            bearer.set_sensitive(true);
        }
        let name = access.server_name.unwrap_or_else(|| url.host.clone());
        Ok(Endpoint { url, shown: server, name, tls: Arc::new(tls), bearer, home: Handle::current(), connections: Connections::default() })
    }

    /// The same with connections on another runtime.
    #[must_use]
    pub fn driven_by(self, home: Handle) -> Self {
        Endpoint { home, ..self }
    }

    /// Posts JSON and reads the answer of at most `longest` bytes, within `timeout`. A server that fails is asked again.
    ///
    /// # Errors
    /// As upstream's client words it.
    pub async fn post(&self, body: Bytes, timeout: Duration, longest: usize) -> Result<Bytes, String> {
        let asking = async {
            let mut last = String::new();
            for attempt in 0..TRIES {
                if attempt > 0 {
                    tokio::time::sleep(PAUSE * attempt).await;
                }
                match self.exchange(body.clone(), longest).await {
                    Ok(answer) if (200..=206).contains(&answer.status.as_u16()) => return Ok(answer.body),
                    Ok(answer) if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS => last = refused(&answer),
                    Ok(answer) => return Err(refused(&answer)),
                    Err(why) => last = format!("Post {:?}: {why}", self.shown),
                }
            }
            Err(last)
        };
        tokio::time::timeout(timeout, asking).await.unwrap_or_else(|_| Err(format!("Post {:?}: context deadline exceeded", self.shown)))
    }

    async fn exchange(&self, body: Bytes, longest: usize) -> Result<Answer, String> {
        self.connections.exchange(self.request(body)?, longest, || self.dial()).await
    }

    async fn dial(&self) -> Result<Connection, String> {
        let (url, name, tls) = (self.url.clone(), self.name.clone(), self.tls.clone());
        let dialing = self.home.spawn(async move { fetch::dial(&url, &name, &tls).await });
        dialing.await.unwrap_or_else(|_| Err("the thread that connects is gone".into()))
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(&self.url.path)
            .header(header::HOST, &self.url.authority)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(header::ACCEPT, HeaderValue::from_static("application/json, */*"))
            .header(header::USER_AGENT, HeaderValue::from_static("kube-apiserver"));
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        request.body(Full::new(body)).map_err(|error| error.to_string())
    }
}

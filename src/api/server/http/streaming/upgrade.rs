//! Asks a kubelet to turn a connection into a stream.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use thiserror::Error;

use super::{
    client::{self, ExchangeError},
    dialer::{DialError, KubeletDialer},
};
use crate::{backends::place::Kubelet, http::connections::PeerSocket};

/// The protocols a SPDY client offers, and the one the server chose.
pub const STREAM_PROTOCOL: HeaderName = HeaderName::from_static(STREAM_PROTOCOL_NAME);
/// The same as text.
pub const STREAM_PROTOCOL_NAME: &str = "x-stream-protocol-version";
/// No more of a kubelet's refusal is shown.
const MAX_REFUSAL: usize = 4096;

/// An upgraded connection.
pub type KubeletStream = TokioIo<Upgraded>;

/// Where a stream is to be had.
#[derive(Clone)]
pub struct StreamPlace {
    pub dialer: KubeletDialer,
    pub kubelet: Kubelet,
    /// Path and query at the kubelet.
    pub path: String,
}

/// Why there is no stream. Reads as what clients see.
#[derive(Debug, Error)]
pub enum UpgradeError {
    #[error("error dialing backend: {0}")]
    Dial(#[from] DialError),
    #[error("error dialing backend: {0}")]
    Exchange(#[from] ExchangeError),
    #[error("error dialing backend: {0}")]
    Http(#[from] hyper::Error),
    #[error("error dialing backend: {0}")]
    Request(#[from] hyper::http::Error),
    /// The kubelet answered something else.
    #[error("unable to upgrade connection: {text}")]
    Refused { code: u16, text: String },
}

impl StreamPlace {
    /// Sends an upgrade request; what comes back besides the stream are the reply's headers, and the socket to break when the client leaves.
    ///
    /// # Errors
    /// When the kubelet cannot be reached or refuses.
    pub async fn upgrade(&self, method: Method, headers: HeaderMap) -> Result<(KubeletStream, HeaderMap, Option<PeerSocket>), UpgradeError> {
        let mut request = Request::builder().method(method).uri(&self.path).body(Empty::<Bytes>::new())?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.kubelet.address.authority()).map_err(hyper::http::Error::from)?);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let stream = self.dialer.dial(&self.kubelet).await?;
        let socket = PeerSocket::of(&stream);
        let mut reply = client::exchange(stream, request).await?;
        if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(reply).await);
        }
        let upgraded = hyper::upgrade::on(&mut reply).await?;
        Ok((TokioIo::new(upgraded), std::mem::take(reply.headers_mut()), socket))
    }

    /// Upgrades to SPDY, offering `protocols`; gives the stream, the protocol chosen, and the socket to break when the client leaves.
    ///
    /// # Errors
    /// When the kubelet cannot be reached or refuses.
    pub async fn spdy(&self, protocols: &[String]) -> Result<(KubeletStream, Option<String>, Option<PeerSocket>), UpgradeError> {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        for protocol in protocols {
            headers.append(STREAM_PROTOCOL, HeaderValue::from_str(protocol).map_err(hyper::http::Error::from)?);
        }
        let (stream, reply, socket) = self.upgrade(Method::POST, headers).await?;
        let chosen = reply.get(STREAM_PROTOCOL).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((stream, chosen, socket))
    }
}

async fn refusal(reply: Response<Incoming>) -> UpgradeError {
    let code = reply.status().as_u16();
    let body = Limited::new(reply.into_body(), MAX_REFUSAL).collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    UpgradeError::Refused { code, text: String::from_utf8_lossy(&body).trim_end().to_owned() }
}

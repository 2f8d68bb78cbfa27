//! One HTTP/1.1 exchange on a connection of its own, ready to be upgraded.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::informational::{self, Informational};

/// Why there is no reply.
#[derive(Debug, Error)]
pub enum ExchangeError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("{}", informational::TOO_MANY)]
    TooManyInformational,
}

/// Sends `request` over `io` and waits for the reply's head. The connection closes when the body, or the upgraded
/// stream of [`hyper::upgrade::on`], is dropped.
///
/// # Errors
/// When the peer does not answer in HTTP, or never comes to the point.
pub async fn exchange<Io>(io: Io, mut request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, ExchangeError>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection broke");
        }
    });
    let informational = Informational::of(&mut request);
    tokio::select! {
        biased;
        reply = sender.send_request(request) => reply.map_err(ExchangeError::from),
        () = informational.too_many() => Err(ExchangeError::TooManyInformational),
    }
}

/// Makes a request without a body over `io`: the code of the answer, and its body of at most `most` bytes.
///
/// # Errors
/// When the peer does not answer in HTTP, or with more.
pub async fn ask<Io>(io: Io, method: Method, path: &str, host: String, most: usize) -> Result<(u16, Bytes), String>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = Request::builder().method(method).uri(path).header("host", host).body(Empty::new()).map_err(|error| error.to_string())?;
    let reply = exchange(io, request).await.map_err(|error| error.to_string())?;
    let code = reply.status().as_u16();
    let body = Limited::new(reply.into_body(), most).collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((code, body))
}

/// Carries bytes both ways until either end is done.
pub async fn pump<A, B>(near: A, far: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut near_in, mut near_out) = tokio::io::split(near);
    let (mut far_in, mut far_out) = tokio::io::split(far);
    let ended = tokio::select! {
        ended = tokio::io::copy(&mut near_in, &mut far_out) => ended,
        ended = tokio::io::copy(&mut far_in, &mut near_out) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a proxied stream broke");
    }
    // The other end may be gone already.
    let _ = tokio::join!(near_out.shutdown(), far_out.shutdown());
}

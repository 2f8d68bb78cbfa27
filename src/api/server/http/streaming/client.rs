//! One HTTP/1.1 exchange on a connection of its own, ready to be upgraded.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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

/// Carries bytes both ways until either end is done. What the far end said before it took no more is brought to the near one.
pub async fn pump<A, B>(near: A, far: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut near_in, mut near_out) = tokio::io::split(near);
    let (mut far_in, mut far_out) = tokio::io::split(far);
    {
        let inward = std::pin::pin!(carry(&mut near_in, &mut far_out));
        let mut outward = std::pin::pin!(carry(&mut far_in, &mut near_out));
        let refused = tokio::select! {
            refused = inward => refused,
            _ = &mut outward => false,
        };
        if refused {
            outward.await;
        }
    }
    // The other end may be gone already.
    let _ = tokio::join!(near_out.shutdown(), far_out.shutdown());
}

/// Bytes that are carried at a time.
const PIECE: usize = 8 << 10;

/// Carries bytes until the source ends or breaks; whether it was the sink that took no more.
async fn carry<R, W>(source: &mut R, sink: &mut W) -> bool
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut piece = vec![0; PIECE];
    loop {
        let read = match source.read(&mut piece).await {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "a proxied stream broke");
                return false;
            }
        };
        let written = async {
            sink.write_all(&piece[..read]).await?;
            sink.flush().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "a proxied stream takes no more");
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::duplex, time::timeout};

    use super::*;

    #[tokio::test]
    async fn what_the_far_end_said_before_it_took_no_more_comes_to_the_near_one() {
        let (near, mut client) = duplex(64);
        let (far, mut command) = duplex(1 << 20);
        let said = vec![b'x'; 100_000];
        command.write_all(&said).await.expect("there is room");
        drop(command);
        client.write_all(b"more input").await.expect("there is room");
        let pumped = tokio::spawn(pump(near, far));
        let mut heard = Vec::new();
        timeout(Duration::from_secs(5), client.read_to_end(&mut heard)).await.expect("it ends").expect("reads");
        assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
        pumped.await.expect("ends");
    }
}

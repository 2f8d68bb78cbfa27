//! Port-forward of newer clients: SPDY frames inside a WebSocket, unwrapped towards the kubelet.

use std::io;

use actix_web::{HttpResponse, rt::spawn};
use actix_ws::{CloseCode, Session};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use troupe_api::status::Status;

use super::{
    kind::TUNNEL_PREFIX,
    pieces::{Piece, Pieces, accept},
    proxy::{gone, refused},
    upgrade::{KubeletStream, StreamPlace},
};
use crate::http::{connect::ConnectRequest, connections::PeerSocket};

const CHUNK: usize = 32 << 10;

/// Upgrades the kubelet's side first, then accepts the WebSocket.
///
/// # Errors
/// When the kubelet refuses, or the handshake is malformed.
pub async fn serve(request: ConnectRequest, place: StreamPlace, protocols: &[String]) -> Result<HttpResponse, Status> {
    let (stream, chosen, kubelet) = place.spdy(protocols).await.map_err(refused)?;
    let chosen = format!("{TUNNEL_PREFIX}{}", chosen.as_deref().or(protocols.first().map(String::as_str)).unwrap_or_default());
    let left = gone(&request);
    let (response, session, pieces) = accept(&request.request, request.payload, Some(&chosen)).await?;
    spawn(async move {
        tokio::select! {
            () = run(stream, session, pieces) => {}
            () = left => kubelet.into_iter().for_each(PeerSocket::break_on_close),
        }
    });
    Ok(response)
}

async fn run(stream: KubeletStream, session: Session, mut pieces: Pieces) {
    let (input, output) = split(stream);
    let ended = tokio::select! {
        ended = wrap(input, session.clone()) => ended,
        ended = unwrap(&mut pieces, session.clone(), output) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a tunnelled stream broke");
    }
    // A client that is gone needs no goodbye.
    let _ = session.close(Some(CloseCode::Normal.into())).await;
}

/// The kubelet's bytes, a message for each piece.
async fn wrap(mut input: impl AsyncRead + Unpin, mut session: Session) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        if input.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        session.binary(buffer.split().freeze()).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
}

/// The client's messages as bytes: where one ends means nothing.
async fn unwrap(pieces: &mut Pieces, mut session: Session, mut output: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(piece) = pieces.next().await? {
        match piece {
            Piece::Data { text: true, .. } => return Err(io::Error::new(io::ErrorKind::InvalidData, "a tunnel carries binary messages only")),
            Piece::Data { data, .. } => {
                output.write_all(&data).await?;
                output.flush().await?;
            }
            Piece::Ping(data) => session.pong(&data).await.map_err(|_| io::ErrorKind::BrokenPipe)?,
            Piece::Pong => {}
            Piece::Close => return Ok(()),
        }
    }
    Ok(())
}

//! Port-forward of newer clients: SPDY frames inside a WebSocket, unwrapped towards the kubelet.

use std::io;

use actix_web::{FromRequest, HttpResponse, rt::spawn, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, Session};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use super::{
    kind::TUNNEL_PREFIX,
    proxy::refused,
    upgrade::{KubeletStream, StreamPlace},
};
use crate::{http::connect::ConnectRequest, status::Status};

const LONGEST_MESSAGE: usize = 16 << 20;
const CHUNK: usize = 32 << 10;

/// Upgrades the kubelet's side first, then accepts the WebSocket.
///
/// # Errors
/// When the kubelet refuses, or the handshake is malformed.
pub async fn serve(mut request: ConnectRequest, place: StreamPlace, protocols: &[String]) -> Result<HttpResponse, Status> {
    let (stream, chosen) = place.spdy(protocols).await.map_err(refused)?;
    let chosen = format!("{TUNNEL_PREFIX}{}", chosen.as_deref().or(protocols.first().map(String::as_str)).unwrap_or_default());
    let payload = web::Payload::from_request(&request.request, &mut request.payload).await.map_err(Status::internal)?;
    let (response, session, messages) =
        actix_ws::handle_with_protocols(&request.request, payload, &[chosen.as_str()]).map_err(|error| Status::bad_request(error.to_string()))?;
    let messages = messages.max_frame_size(LONGEST_MESSAGE).aggregate_continuations().max_continuation_size(LONGEST_MESSAGE);
    spawn(run(stream, session, messages));
    Ok(response)
}

async fn run(stream: KubeletStream, session: Session, mut messages: AggregatedMessageStream) {
    let (input, output) = split(stream);
    let ended = tokio::select! {
        ended = wrap(input, session.clone()) => ended,
        ended = unwrap(&mut messages, session.clone(), output) => ended,
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

/// The client's messages as bytes.
async fn unwrap(messages: &mut AggregatedMessageStream, mut session: Session, mut output: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(received) = messages.recv().await {
        match received.map_err(io::Error::other)? {
            AggregatedMessage::Binary(data) => {
                output.write_all(&data).await?;
                output.flush().await?;
            }
            AggregatedMessage::Ping(data) => session.pong(&data).await.map_err(|_| io::ErrorKind::BrokenPipe)?,
            AggregatedMessage::Text(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a tunnel carries binary messages only")),
            AggregatedMessage::Pong(_) => {}
            AggregatedMessage::Close(_) => return Ok(()),
        }
    }
    Ok(())
}

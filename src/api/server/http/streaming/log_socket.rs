//! A log over a WebSocket, for clients that cannot follow plain replies, such as browsers.
//!
//! The protocol says how its bytes travel: `binary.k8s.io`, or none named, as they are, `base64.binary.k8s.io` as text. A first, empty
//! message tells that the log is there. What the client sends means nothing, but its close ends the log.

use actix_web::{HttpResponse, http::header::SEC_WEBSOCKET_PROTOCOL, rt::spawn};
use actix_ws::{CloseCode, Closed, Session};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use troupe_api::status::{Reason, Status};

use super::{
    kind::words,
    pieces::{Piece, Pieces, accept},
    turns::Turns,
};
use crate::http::connect::ConnectRequest;

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// How a log's bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Binary,
    Base64,
}

/// Accepts the WebSocket; the log follows by itself.
///
/// # Errors
/// 403 for protocols that there are not, 400 when the handshake is malformed.
pub async fn serve(request: ConnectRequest, log: Incoming) -> Result<HttpResponse, Status> {
    let offered: Vec<&str> = words(request.request.headers(), &SEC_WEBSOCKET_PROTOCOL).collect();
    let (protocol, coding) = choose(&offered)?;
    let (response, session, pieces) = accept(&request.request, request.payload, protocol).await?;
    spawn(run(session, pieces, log, coding, Turns::of_caller()));
    Ok(response)
}

/// The first offered protocol that there is; clients need not offer any.
fn choose(offered: &[&str]) -> Result<(Option<&'static str>, Coding), Status> {
    if offered.is_empty() {
        return Ok((None, Coding::Binary));
    }
    let known = [(BINARY, Coding::Binary), (BASE64, Coding::Base64)];
    let chosen = offered.iter().find_map(|offer| known.iter().find(|(protocol, _)| protocol == offer));
    let (protocol, coding) = chosen.ok_or_else(|| {
        let why = format!("requested protocol(s) are not supported: {offered:?}; supports [\"\", {BINARY:?}, {BASE64:?}]");
        Status::new(403, Reason::Forbidden, why)
    })?;
    Ok((Some(*protocol), *coding))
}

async fn run(session: Session, mut pieces: Pieces, log: Incoming, coding: Coding, turns: Turns) {
    tokio::select! {
        // A client that is gone needs no more.
        _ = pass(session.clone(), log, coding, turns) => {}
        () = until_closed(&mut pieces, session.clone()) => {}
    }
    // The same holds for a goodbye.
    let _ = session.close(Some(CloseCode::Normal.into())).await;
}

async fn pass(mut session: Session, mut log: Incoming, coding: Coding, turns: Turns) -> Result<(), Closed> {
    send(&mut session, Bytes::new(), coding).await?;
    while let Some(frame) = log.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) if !data.is_empty() => {
                turns.begin().await;
                send(&mut session, data, coding).await?;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a log broke off");
                break;
            }
        }
    }
    Ok(())
}

async fn send(session: &mut Session, data: Bytes, coding: Coding) -> Result<(), Closed> {
    match coding {
        Coding::Binary => session.binary(data).await,
        Coding::Base64 => session.text(STANDARD.encode(&data)).await,
    }
}

async fn until_closed(pieces: &mut Pieces, mut session: Session) {
    while let Ok(Some(piece)) = pieces.next().await {
        match piece {
            Piece::Close => return,
            Piece::Ping(data) if session.pong(&data).await.is_err() => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_choose_how_bytes_travel() {
        assert_eq!(choose(&[]), Ok((None, Coding::Binary)));
        assert_eq!(choose(&[BINARY]), Ok((Some(BINARY), Coding::Binary)));
        assert_eq!(choose(&["x", BASE64, BINARY]), Ok((Some(BASE64), Coding::Base64)));
        assert_eq!(choose(&["v4.channel.k8s.io"]).expect_err("is for commands").code, 403);
    }
}

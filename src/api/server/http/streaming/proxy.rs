//! Upgrades that are passed on as they are: SPDY, and WebSocket of older protocols.

use actix_web::{
    HttpResponse,
    dev::Payload,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName},
    },
    rt::spawn,
};
use futures::StreamExt;
use tokio::io::{AsyncWriteExt, WriteHalf, split};
use tokio_util::io::ReaderStream;
use troupe_api::status::{Reason, Status};

use super::upgrade::{KubeletStream, STREAM_PROTOCOL_NAME, StreamPlace, UpgradeError};
use crate::http::{
    connect::ConnectRequest,
    connections::{self, PeerSocket, connection_of},
};

const CHUNK: usize = 32 << 10;
/// What the kubelet learns of the client's request beside the upgrade itself.
const FORWARDED: [HeaderName; 8] = [
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::ORIGIN,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static(STREAM_PROTOCOL_NAME),
];

/// Upgrades the kubelet's side to `protocol` with the client's own headers, and joins both.
///
/// # Errors
/// When the kubelet cannot be reached or refuses.
pub async fn serve(request: ConnectRequest, place: StreamPlace, protocol: &'static str) -> Result<HttpResponse, Status> {
    let mut headers = forwarded(request.request.headers());
    headers.insert(hyper::header::UPGRADE, hyper::header::HeaderValue::from_static(protocol));
    let method = if protocol == "websocket" { hyper::Method::GET } else { hyper::Method::POST };
    let (stream, reply, kubelet) = place.upgrade(method, headers).await.map_err(refused)?;
    let mut response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
    response.upgrade(protocol);
    let passed = ["sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions", STREAM_PROTOCOL_NAME];
    for (name, value) in passed.iter().filter_map(|name| Some((*name, reply.get(*name)?))) {
        response.append_header((name, value.as_bytes()));
    }
    let (input, output) = split(stream);
    let left = gone(&request);
    spawn(async move {
        tokio::select! {
            () = upload(request.payload, output) => {}
            // The connection ends with its reply, which has the rest of the stream.
            () = left => kubelet.into_iter().for_each(PeerSocket::break_on_close),
        }
    });
    Ok(response.streaming(ReaderStream::with_capacity(input, CHUNK)))
}

fn forwarded(headers: &HeaderMap) -> hyper::HeaderMap {
    let mut out = hyper::HeaderMap::new();
    for name in &FORWARDED {
        for value in headers.get_all(name) {
            if let (Ok(name), Ok(value)) =
                (name.as_str().parse::<hyper::header::HeaderName>(), hyper::header::HeaderValue::from_bytes(value.as_bytes()))
            {
                out.append(name, value);
            }
        }
    }
    out
}

/// When the client of a request has left. Then its connection ends.
pub fn gone(request: &ConnectRequest) -> impl Future<Output = ()> + use<> {
    connections::gone(connection_of(&request.request))
}

/// The client's bytes, until it closes.
async fn upload(mut payload: Payload, mut output: WriteHalf<KubeletStream>) {
    while let Some(Ok(piece)) = payload.next().await {
        if output.write_all(&piece).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
    // The kubelet may be gone already.
    let _ = output.shutdown().await;
}

/// A failed upgrade as the reply to the client.
pub fn refused(error: UpgradeError) -> Status {
    match error {
        UpgradeError::Refused { code: 400, text } => Status::bad_request(text),
        UpgradeError::Refused { code: 404, text } => Status::new(404, Reason::NotFound, text),
        UpgradeError::Refused { code: 403, text } => Status::new(403, Reason::Forbidden, text),
        error => Status::internal(error),
    }
}

//! What of a request and its reply is passed on by a proxy.

use actix_web::{
    HttpRequest, HttpResponseBuilder,
    dev::Payload,
    http::header::{self, HeaderMap},
};
use futures::StreamExt;
use hyper::{
    Response,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::super::kind::words;

/// Headers between two neighbours, which none of the others gets to see.
const HOP_BY_HOP: [&str; 9] =
    ["connection", "proxy-connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"];
/// What the client told the API server about itself, which no backend may see.
const CREDENTIALS: [&str; 3] = ["authorization", "impersonate-", "x-remote-"];
const CORS: [&str; 4] =
    ["access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin"];

/// Whether a client wants to turn the connection into something else.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    words(headers, &header::CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"))
}

/// What a backend is told of a request's headers: neither what only concerns our connection nor who the client is.
pub fn request_headers(request: &HttpRequest, upgrade: bool) -> hyper::HeaderMap {
    let given = request.headers();
    let named: Vec<String> = words(given, &header::CONNECTION).map(str::to_ascii_lowercase).collect();
    let mut headers = hyper::HeaderMap::new();
    for (name, value) in given {
        let name = name.as_str();
        let is_hop = HOP_BY_HOP.contains(&name) || named.iter().any(|named| named == name);
        let kept = !is_hop || upgrade && matches!(name, "connection" | "upgrade") || name == "te" && value == "trailers";
        let is_secret = CREDENTIALS.iter().any(|secret| name.starts_with(secret));
        if let (true, false, Ok(name), Ok(value)) = (kept, is_secret, name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    if let Some(peer) = request.peer_addr() {
        let before = given.get("x-forwarded-for").and_then(|value| value.to_str().ok()).map_or(String::new(), |chain| format!("{chain}, "));
        insert(&mut headers, "x-forwarded-for", &format!("{before}{}", peer.ip()));
    }
    if !headers.contains_key(hyper::header::HOST) {
        insert(&mut headers, "host", request.connection_info().host());
    }
    headers
}

pub fn insert(headers: &mut hyper::HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Copies what concerns the client of a reply; `change` may change values.
pub fn copy_headers(reply: &Response<Incoming>, response: &mut HttpResponseBuilder, change: impl Fn(&str, &str) -> String) {
    for (name, value) in reply.headers() {
        let name = name.as_str();
        if HOP_BY_HOP.contains(&name) || CORS.contains(&name) || name == "content-length" {
            continue;
        }
        match value.to_str() {
            Ok(text) => response.append_header((name, change(name, text))),
            Err(_) => response.append_header((name, value.as_bytes())),
        };
    }
}

/// The client's bytes, until it closes.
pub async fn upload(mut payload: Payload, mut output: impl AsyncWrite + Unpin) {
    while let Some(Ok(piece)) = payload.next().await {
        if output.write_all(&piece).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
    // The backend may be gone already.
    let _ = output.shutdown().await;
}

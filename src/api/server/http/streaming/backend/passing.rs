//! What of a request and its reply is passed on by a proxy.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
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
use troupe_api::status::quoted;

use super::super::kind::words;

/// Headers between two neighbours, which none of the others gets to see.
const HOP_BY_HOP: [&str; 9] =
    ["connection", "proxy-connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"];
/// What the client told the API server about itself, which no backend may see. Many servers take `_` for `-`.
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
        let folded = name.replace('_', "-");
        let is_secret = CREDENTIALS.iter().any(|secret| folded.starts_with(secret));
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

/// How many bytes a reply's body has; `None` where nothing says so. A chunked body ends by itself, whatever length is told beside it (RFC 9112,
/// section 6.3).
pub fn length_of<B>(reply: &Response<B>) -> Option<u64> {
    let headers = reply.headers();
    if headers.contains_key(hyper::header::TRANSFER_ENCODING) {
        return None;
    }
    headers.get(hyper::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether replies of this status code have no body, whatever length they tell (RFC 9110, section 6.4.1).
pub fn is_bodiless(code: u16) -> bool {
    matches!(code, 204 | 304)
}

/// What a client is told whose backend answers 101 to a request that asked for no upgrade.
pub fn unasked_switch() -> HttpResponse {
    HttpResponse::BadGateway().body("the backend switched protocols, which this request did not ask for")
}

/// The protocol that a backend switches to, which is one that the client asked for: the first, where the backend names none.
///
/// # Errors
/// What Go's proxy says of any other.
pub fn switched(asked: &HeaderMap, reply: &hyper::HeaderMap) -> Result<String, String> {
    let mut asked: Vec<&str> = words(asked, &header::UPGRADE).collect();
    // Where a client asks for SPDY, another line is there for our own server's sake (`upgrade_io`).
    if asked.iter().any(|protocol| protocol.eq_ignore_ascii_case("spdy/3.1")) {
        asked.retain(|protocol| !protocol.eq_ignore_ascii_case("websocket"));
    }
    let Some(named) = reply.get(hyper::header::UPGRADE) else { return Ok(asked.first().copied().unwrap_or("websocket").to_owned()) };
    let named = named.to_str().unwrap_or_default().trim();
    if !asked.iter().any(|protocol| protocol.eq_ignore_ascii_case(named)) {
        return Err(format!("backend tried to switch protocol {:?} when {:?} was requested", quoted(named), asked.join(", ")));
    }
    Ok(named.to_owned())
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

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn no_spelling_of_credentials_gets_to_a_backend() {
        let secrets = ["authorization", "x-remote-user", "x_remote_user", "X_Remote-Group", "x-remote_extra_a", "impersonate_user"];
        let mut request = TestRequest::default();
        for name in secrets.into_iter().chain(["x-mine", "x_mine"]) {
            request = request.insert_header((name, "a"));
        }
        let headers = request_headers(&request.to_http_request(), false);
        for secret in secrets {
            assert!(!headers.contains_key(secret), "{secret}");
        }
        assert!(headers.contains_key("x-mine") && headers.contains_key("x_mine"));
    }

    #[test]
    fn backends_switch_only_to_what_was_asked_for() {
        let switch = |asked: &[&'static str], named: Option<&'static str>| {
            let request = asked.iter().fold(TestRequest::default(), |request, protocol| request.append_header(("upgrade", *protocol)));
            let mut reply = hyper::HeaderMap::new();
            if let Some(named) = named {
                insert(&mut reply, "upgrade", named);
            }
            switched(request.to_http_request().headers(), &reply)
        };
        assert_eq!(switch(&["websocket"], Some("WebSocket")), Ok("WebSocket".into()));
        assert_eq!(switch(&["SPDY/3.1", "websocket"], Some("SPDY/3.1")), Ok("SPDY/3.1".into()));
        assert_eq!(switch(&["SPDY/3.1", "websocket"], None), Ok("SPDY/3.1".into()));
        let other = |named: &str, asked: &str| Err(format!("backend tried to switch protocol {named:?} when {asked:?} was requested"));
        assert_eq!(switch(&["SPDY/3.1", "websocket"], Some("websocket")), other("websocket", "SPDY/3.1"));
        assert_eq!(switch(&["websocket"], Some("h2c")), other("h2c", "websocket"));
        assert_eq!(switch(&[], Some("websocket")), other("websocket", ""));
    }

    #[test]
    fn the_length_of_a_chunked_body_is_not_believed() {
        let of = |headers: &[(&str, &str)]| {
            let reply = headers.iter().fold(Response::builder(), |reply, (name, value)| reply.header(*name, *value));
            length_of(&reply.body(()).expect("well formed"))
        };
        assert_eq!(of(&[("content-length", "5")]), Some(5));
        assert_eq!(of(&[("content-length", "5"), ("transfer-encoding", "chunked")]), None);
        assert_eq!((of(&[("content-length", "-5")]), of(&[])), (None, None));
    }
}

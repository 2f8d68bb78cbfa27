//! What kind of upgrade a client asks for.

use actix_web::http::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use troupe_api::status::Status;

/// The protocol that can half-close streams.
pub const V5: &str = "v5.channel.k8s.io";
/// Before the name of a SPDY protocol that runs inside a WebSocket.
pub const TUNNEL_PREFIX: &str = "SPDY/3.1+";

/// How a stream's bytes travel between the client and the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// SPDY/3.1, passed on as it is.
    Spdy,
    /// WebSocket of an older protocol, passed on as it is.
    WebSocket,
    /// WebSocket v5, translated to SPDY.
    Channels,
    /// SPDY inside a WebSocket; the inner protocols that the client offers.
    Tunnel(Vec<String>),
}

impl StreamKind {
    /// Reads it off the request's headers.
    ///
    /// # Errors
    /// 400 when the request is no upgrade: in the words of upstream's API server, or of its kubelet where the protocol is none that it speaks.
    pub fn of(headers: &HeaderMap, subresource: &str) -> Result<Self, Status> {
        if !words(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade")) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let asks_for = |protocol: &str| words(headers, &UPGRADE).any(|word| word.eq_ignore_ascii_case(protocol));
        if asks_for("spdy/3.1") {
            return Ok(StreamKind::Spdy);
        }
        if !asks_for("websocket") {
            return Err(Status::bad_request("unable to upgrade: missing upgrade headers in request"));
        }
        let tunnelled: Vec<String> =
            words(headers, &SEC_WEBSOCKET_PROTOCOL).filter_map(|protocol| protocol.strip_prefix(TUNNEL_PREFIX)).map(str::to_owned).collect();
        match subresource {
            "portforward" if !tunnelled.is_empty() => Ok(StreamKind::Tunnel(tunnelled)),
            "exec" | "attach" if words(headers, &SEC_WEBSOCKET_PROTOCOL).any(|protocol| protocol == V5) => Ok(StreamKind::Channels),
            _ => Ok(StreamKind::WebSocket),
        }
    }
}

/// The comma-separated words of all headers of one name.
pub fn words<'a>(headers: &'a HeaderMap, name: &actix_web::http::header::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn kind(headers: &[(&str, &str)], subresource: &str) -> Result<StreamKind, Status> {
        let upgrade = TestRequest::default().append_header(("connection", "keep-alive, Upgrade"));
        let request = headers.iter().fold(upgrade, |request, header| request.append_header(*header)).to_http_request();
        StreamKind::of(request.headers(), subresource)
    }

    #[test]
    fn each_generation_of_clients_is_known_by_its_headers() {
        let v5 = [("upgrade", "websocket"), ("sec-websocket-protocol", "v5.channel.k8s.io,v4.channel.k8s.io")];
        assert_eq!(kind(&v5, "exec"), Ok(StreamKind::Channels));
        let v4 = [("upgrade", "WebSocket"), ("sec-websocket-protocol", "v4.channel.k8s.io")];
        assert_eq!(kind(&v4, "attach"), Ok(StreamKind::WebSocket));
        let tunnel = [("upgrade", "websocket"), ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")];
        assert_eq!(kind(&tunnel, "portforward"), Ok(StreamKind::Tunnel(vec!["portforward.k8s.io".into()])));
        assert_eq!(kind(&[("upgrade", "SPDY/3.1"), ("upgrade", "websocket")], "exec"), Ok(StreamKind::Spdy));
        for unknown in [&[("upgrade", "h2c")][..], &[]] {
            let refused = kind(unknown, "exec").expect_err("no protocol");
            assert_eq!((refused.code, &*refused.message), (400, "unable to upgrade: missing upgrade headers in request"));
        }
        let plain = TestRequest::default().append_header(("upgrade", "websocket")).to_http_request();
        let refused = StreamKind::of(plain.headers(), "exec").expect_err("no upgrade");
        assert_eq!((refused.code, &*refused.message), (400, "Upgrade request required"));
    }
}

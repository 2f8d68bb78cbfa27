//! Watches over WebSockets (RFC 6455), for clients that cannot follow plain replies, such as browsers: each event is a message, a text of JSON
//! or the bytes of protobuf, as upstream's `WatchServer.HandleWS` sends them.
//!
//! In: the events of a watch and what its client sends. Out: messages, answers to pings, and a close when either side ends. What else the
//! client sends means nothing. The body is the watch's own, so time, accounts and seats are those of a plain watch.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::Payload,
    http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{
    StreamExt,
    stream::{self, LocalBoxStream},
};
use troupe_api::status::Status;

use super::streaming::{
    Piece, Pieces,
    kind::words,
    pieces::{self, BINARY, CLOSE, PONG, TEXT},
};

/// RFC 6455, section 7.4.1.
const NORMAL_CLOSURE: u16 = 1000;
/// The length before each event of a protobuf stream, which messages need not.
const EVENT_LENGTH: usize = 4;

/// A WebSocket that is accepted.
pub struct Socket {
    response: HttpResponse,
    client: Pieces,
}

/// Whether a client wants its watch over a WebSocket.
pub fn is_wanted(request: &HttpRequest) -> bool {
    let says = |name: &HeaderName, what: &str| words(request.headers(), name).any(|word| word.eq_ignore_ascii_case(what));
    says(&UPGRADE, "websocket") && says(&CONNECTION, "upgrade")
}

/// Accepts it, with the protocol that the client offers, whatever it is.
///
/// # Errors
/// 400 when the handshake is malformed, or offers several protocols: upstream chooses none of them.
pub async fn accept(request: &HttpRequest, payload: Payload) -> Result<Socket, Status> {
    let offered: Vec<&str> = words(request.headers(), &SEC_WEBSOCKET_PROTOCOL).collect();
    if offered.len() > 1 {
        return Err(Status::bad_request(format!("a watch takes one WebSocket protocol, not {offered:?}")));
    }
    let (response, _, client) = pieces::accept(request, payload, offered.first().copied()).await?;
    Ok(Socket { response, client })
}

impl Socket {
    /// The response; `messages` are [`text`] or [`binary`], any number at a time.
    pub fn respond(self, messages: impl MessageBody + 'static) -> HttpResponse {
        let client = stream::unfold(self.client, next_piece).boxed_local();
        self.response.map_body(|_, _| Conversation { messages: messages.boxed(), client, ping: None, is_over: false }.boxed())
    }
}

/// What is no frame ends the conversation as a close does.
async fn next_piece(mut client: Pieces) -> Option<(Piece, Pieces)> {
    let piece = client.next().await.ok()??;
    Some((piece, client))
}

/// An event of JSON as a message.
pub fn text(event: &Bytes) -> Bytes {
    frame(TEXT, event)
}

/// An event of protobuf as a message.
pub fn binary(event: &Bytes) -> Bytes {
    frame(BINARY, event.get(EVENT_LENGTH..).unwrap_or_default())
}

/// A whole frame of a server's: it has no mask.
fn frame(opcode: u8, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 10);
    out.put_u8(0x80 | opcode);
    match (u8::try_from(data.len()), u16::try_from(data.len())) {
        (Ok(length @ 0..=125), _) => out.put_u8(length),
        (_, Ok(length)) => {
            out.put_u8(126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(data.len() as u64);
        }
    }
    out.put_slice(data);
    out.freeze()
}

/// Both sides of an accepted WebSocket as one body.
struct Conversation {
    messages: BoxBody,
    client: LocalBoxStream<'static, Piece>,
    /// Of several pings only the last one wants an answer (RFC 6455, section 5.5.3).
    ping: Option<Bytes>,
    is_over: bool,
}

impl Conversation {
    /// Takes what has come; false when the client is done.
    fn listen(&mut self, context: &mut Context<'_>) -> bool {
        while let Poll::Ready(piece) = self.client.poll_next_unpin(context) {
            match piece {
                None | Some(Piece::Close) => return false,
                Some(Piece::Ping(data)) => self.ping = Some(data),
                Some(Piece::Data { .. } | Piece::Pong) => {}
            }
        }
        true
    }

    fn close(&mut self) -> Bytes {
        self.is_over = true;
        frame(CLOSE, &NORMAL_CLOSURE.to_be_bytes())
    }
}

impl MessageBody for Conversation {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if !self.listen(context) {
            return Poll::Ready(Some(Ok(self.close())));
        }
        if let Some(data) = self.ping.take() {
            return Poll::Ready(Some(Ok(frame(PONG, &data))));
        }
        match Pin::new(&mut self.messages).poll_next(context) {
            Poll::Ready(None) => Poll::Ready(Some(Ok(self.close()))),
            goes_on => goes_on,
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn lengths_stand_in_as_few_bytes_as_they_need() {
        for (length, head) in [
            (0, &[0x81_u8, 0][..]),
            (125, &[0x81, 125][..]),
            (126, &[0x81, 126, 0, 126][..]),
            (300, &[0x81, 126, 1, 44][..]),
            (65_535, &[0x81, 126, 255, 255][..]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0][..]),
        ] {
            let data = Bytes::from(vec![b'x'; length]);
            let message = text(&data);
            assert_eq!((&message[..head.len()], &message[head.len()..]), (head, &data[..]), "{length}");
        }
        assert_eq!(binary(&Bytes::from_static(&[0, 0, 0, 1, 7]))[..], [0x82_u8, 1, 7]);
    }

    #[test]
    fn a_socket_is_wanted_where_both_headers_say_so() {
        let wanted = |headers: &[(&'static str, &'static str)]| {
            is_wanted(&headers.iter().fold(TestRequest::default(), |request, header| request.append_header(*header)).to_http_request())
        };
        assert!(wanted(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]));
        assert!(!wanted(&[("upgrade", "websocket")]));
        assert!(!wanted(&[("connection", "upgrade"), ("upgrade", "h2c")]));
    }
}

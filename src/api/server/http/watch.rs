//! Watch streams over HTTP: frames, several to a write, ended by time, shutdown or the service.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    http::header::{self, HeaderValue},
};
use bytes::{Bytes, BytesMut};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use troupe_api::{
    service::{WatchItem, WatchStream},
    status::Status,
};

use super::{
    frames::Framer,
    watch_socket::{self, Socket},
};

/// Frames are gathered up to about this many bytes before a write.
const GATHER: usize = 16 * 1024;

/// Makes of a frame what is sent.
type Wrap = fn(&Bytes) -> Bytes;

/// A watch as an HTTP body.
struct WatchBody {
    stream: Option<WatchStream>,
    framer: Framer,
    wrap: Wrap,
    deadline: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl WatchBody {
    fn new(stream: WatchStream, framer: Framer, wrap: Wrap, lasts: Duration, shutdown: WaitForCancellationFutureOwned) -> Self {
        WatchBody { stream: Some(stream), framer, wrap, deadline: Box::pin(tokio::time::sleep(lasts)), shutdown: Box::pin(shutdown) }
    }

    /// The next frames, as many as are there.
    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if self.deadline.as_mut().poll(context).is_ready() || self.shutdown.as_mut().poll(context).is_ready() {
            self.stream = None;
            return Poll::Ready(None);
        }
        let mut gathered = Gathered::default();
        let ended = loop {
            match stream.as_mut().poll_next(context) {
                Poll::Ready(Some(item)) => {
                    gathered.push(self.framer.frame(&item).as_ref().map(self.wrap));
                    if matches!(item, WatchItem::End(_)) {
                        break true;
                    }
                    if gathered.len() >= GATHER {
                        break false;
                    }
                }
                Poll::Ready(None) => break true,
                Poll::Pending if gathered.len() == 0 => return Poll::Pending,
                Poll::Pending => break false,
            }
        };
        if ended {
            self.stream = None;
        }
        Poll::Ready(gathered.finish())
    }
}

/// Frames on their way into one write; a single one is not copied.
#[derive(Default)]
struct Gathered {
    single: Option<Bytes>,
    many: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.many.len() + self.single.as_ref().map_or(0, Bytes::len)
    }

    fn push(&mut self, frame: Option<Bytes>) {
        let Some(frame) = frame else { return };
        if self.len() == 0 {
            self.single = Some(frame);
            return;
        }
        if let Some(single) = self.single.take() {
            self.many.reserve(GATHER.min(single.len() * 4));
            self.many.extend_from_slice(&single);
        }
        self.many.extend_from_slice(&frame);
    }

    fn finish(self) -> Option<Bytes> {
        if self.len() == 0 { None } else { Some(self.single.unwrap_or_else(|| self.many.freeze())) }
    }
}

impl MessageBody for WatchBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.poll_frames(context).map(|frames| frames.map(Ok))
    }
}

/// The response that carries a watch of at most this duration, over a WebSocket where one was accepted.
pub fn answer(
    framer: Framer,
    stream: WatchStream,
    lasts: Duration,
    shutdown: WaitForCancellationFutureOwned,
    socket: Option<Socket>,
) -> HttpResponse {
    let (media_type, wrap) = (framer.media_type(), wrap_of(&framer, socket.as_ref()));
    respond(media_type, WatchBody::new(stream, framer, wrap, lasts, shutdown), socket)
}

/// The reply to a watch whose revision is gone: a stream with that one error, as upstream sends it.
pub fn expired(framer: &Framer, status: &Status, socket: Option<Socket>) -> HttpResponse {
    let wrap = wrap_of(framer, socket.as_ref());
    respond(framer.media_type(), framer.error(status).as_ref().map(wrap).unwrap_or_default(), socket)
}

fn wrap_of(framer: &Framer, socket: Option<&Socket>) -> Wrap {
    match socket {
        None => Bytes::clone,
        Some(_) if framer.is_message() => watch_socket::binary,
        Some(_) => watch_socket::text,
    }
}

fn respond(media_type: &'static str, body: impl MessageBody + 'static, socket: Option<Socket>) -> HttpResponse {
    match socket {
        Some(socket) => socket.respond(body),
        None => HttpResponse::Ok().insert_header((header::CONTENT_TYPE, HeaderValue::from_static(media_type))).body(body),
    }
}

//! HTTP/2 connections, within upstream's bounds: streams at once, headers, frames and windows.
//!
//! Requests become the same ones as those of HTTP/1.1 and go to the same application. A connection of nobody is let go after
//! its first requests, as upstream does, so that nobody opens and resets streams for ever. One that has too many frames of bodies unread is
//! closed; floods of other frames (CONTINUATION, SETTINGS, PING, RST_STREAM) are bounded where they are decoded.

#[cfg(test)]
mod tests;
mod unread;

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, task::Poll, time::Duration};

use actix_http::{
    HttpMessage, Payload, Request, Response,
    body::{BodySize, BoxBody, MessageBody},
};
use actix_service::Service;
use actix_web::http::{
    Method,
    header::{self, HeaderName, HeaderValue},
};
use bytes::Bytes;
use futures::{StreamExt, stream::poll_fn as stream_of};
use h2::{
    Ping, Reason, RecvStream,
    server::{self, SendResponse},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::unread::{Counted, Reader, Unread};
use super::connections::Connection;

/// Upstream's, which is also what its clients open.
const STREAMS: u32 = 100;
/// What may lie unread of one request, into which most fit, and of all. Frames keep the size that HTTP/2 begins with, because
/// each is held until it is whole.
const STREAM_WINDOW: u32 = 256 << 10;
const WINDOW: u32 = 1 << 20;
/// All headers of a request, as HTTP/1.1 has it.
const HEADERS: u32 = 128 << 10;
/// How many fields they may be, as HTTP/1.1 has it, too: repeated ones cost next to nothing to send.
const HEADER_FIELDS: usize = 96;
/// Replies that wait for the peer, per stream.
const SEND_BUFFER: usize = 256 << 10;
/// A client has this long for its preface.
const PREFACE: Duration = Duration::from_secs(15);
/// Connections without a stream are let go after this time.
const IDLE: Duration = Duration::from_secs(120);
/// How often the peer must show that it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Nobody has this long to take a reply.
const REPLY: Duration = Duration::from_secs(30);
const CHUNK: usize = 16 << 10;

/// What is done on one connection at the moment.
#[derive(Default)]
struct Streams {
    open: Cell<usize>,
    ended: Notify,
}

/// Serves the connection until one side ends it.
///
/// # Errors
/// When the peer breaks the protocol, or does not answer any more.
pub async fn serve<T, S, B>(
    io: T,
    app: Rc<S>,
    connection: Arc<Connection>,
    peer: Option<SocketAddr>,
    stopping: CancellationToken,
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    B: MessageBody + 'static,
{
    connection.speaks_http2();
    let mut settings = server::Builder::new();
    settings.max_concurrent_streams(STREAMS).max_header_list_size(HEADERS).max_send_buffer_size(SEND_BUFFER);
    settings.initial_window_size(STREAM_WINDOW).initial_connection_window_size(WINDOW);
    let unread = Rc::new(Unread::default());
    let Ok(shaken) = timeout(PREFACE, settings.handshake::<_, Bytes>(Counted::new(io, unread.clone()))).await else { return Ok(()) };
    let mut http = shaken?;
    let mut ping = http.ping_pong();
    let (mut pinged, mut leaving, mut busy) = (false, false, Instant::now());
    let mut ticks = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    let streams = Rc::new(Streams::default());
    loop {
        let mut leave = false;
        tokio::select! {
            biased;
            () = stopping.cancelled(), if !leaving => leave = true,
            () = streams.ended.notified() => {
                busy = Instant::now();
                leave = connection.is_nobodys() || connection.is_closing();
            }
            () = unread.exceeded() => http.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
            accepted = http.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, mut reply) = accepted?;
                let reader = unread.accepted(request.body().stream_id().as_u32());
                if request.headers().len() > HEADER_FIELDS {
                    // Whoever does not wait for the answer needs none.
                    let _ = reply.send_response(too_many_fields(), true);
                    continue;
                }
                begin((request, reader), reply, &app, &connection, peer, &streams);
            }
            Some(_) = pong(ping.as_mut()), if pinged => pinged = false,
            _ = ticks.tick() => {
                if pinged {
                    return Ok(());
                }
                pinged = ping.as_mut().is_some_and(|ping| ping.send_ping(Ping::opaque()).is_ok());
                leave = streams.open.get() == 0 && busy.elapsed() >= IDLE;
            }
        }
        if leave && !leaving {
            leaving = true;
            http.graceful_shutdown();
        }
    }
}

fn too_many_fields() -> http02::Response<()> {
    let mut head = http02::Response::new(());
    *head.status_mut() = http02::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    head
}

/// The answer to a ping.
async fn pong(ping: Option<&mut h2::PingPong>) -> Option<()> {
    let ping = ping?;
    futures::future::poll_fn(|cx| ping.poll_pong(cx)).await.ok().map(|_| ())
}

fn begin<S, B>(
    (request, reader): (http02::Request<RecvStream>, Reader),
    reply: SendResponse<Bytes>,
    app: &Rc<S>,
    connection: &Arc<Connection>,
    peer: Option<SocketAddr>,
    streams: &Rc<Streams>,
) where
    S: Service<Request> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    B: MessageBody + 'static,
{
    let work = connection.begin();
    streams.open.set(streams.open.get() + 1);
    let is_head = *request.method() == Method::HEAD;
    let request = incoming(request, reader, connection, peer);
    let (app, connection, streams) = (app.clone(), connection.clone(), streams.clone());
    actix_web::rt::spawn(async move {
        let sent = match app.call(request).await {
            Ok(response) => send(response.into(), reply, is_head, &connection).await,
            Err(error) => send(error.into(), reply, is_head, &connection).await,
        };
        if let Err(why) = sent {
            tracing::debug!(%why, "a reply over HTTP/2 broke off");
        }
        drop(work);
        streams.open.set(streams.open.get() - 1);
        streams.ended.notify_one();
    });
}

/// The request as the application takes it.
fn incoming(request: http02::Request<RecvStream>, reader: Reader, connection: &Arc<Connection>, peer: Option<SocketAddr>) -> Request {
    let (parts, mut body) = request.into_parts();
    let payload = stream_of(move |cx| {
        let chunk = std::task::ready!(body.poll_data(cx));
        Poll::Ready(chunk.map(|chunk| {
            let chunk = chunk?;
            reader.took();
            body.flow_control().release_capacity(chunk.len())?;
            Ok(chunk)
        }))
    });
    let mut request =
        Request::with_payload(Payload::Stream { payload: payload.map(|chunk: Result<Bytes, h2::Error>| chunk.map_err(Into::into)).boxed_local() });
    let head = request.head_mut();
    (head.uri, head.method, head.version, head.headers, head.peer_addr) = (parts.uri, parts.method, parts.version, parts.headers.into(), peer);
    request.extensions_mut().insert(connection.clone());
    request
}

/// Sends a reply as fast as the peer takes it.
async fn send<B: MessageBody>(response: Response<B>, mut reply: SendResponse<Bytes>, is_head: bool, connection: &Connection) -> Result<(), String> {
    let size = response.body().size();
    let whole = is_head || matches!(size, BodySize::None | BodySize::Sized(0));
    let mut stream = reply.send_response(head_of(&response, size), whole).map_err(|error| error.to_string())?;
    if whole {
        return Ok(());
    }
    let sending = send_body(response.into_body(), &mut stream);
    if !connection.is_nobodys() {
        return sending.await;
    }
    timeout(REPLY, sending).await.unwrap_or_else(|_| Err("nobody took it".into()))
}

async fn send_body<B: MessageBody>(body: B, stream: &mut h2::SendStream<Bytes>) -> Result<(), String> {
    let text = |error: h2::Error| error.to_string();
    let mut body = std::pin::pin!(body);
    loop {
        let next = futures::future::poll_fn(|cx| match stream.poll_reset(cx) {
            // Nobody wants it any more, however long the body has nothing to say.
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => body.as_mut().poll_next(cx).map(Some),
        });
        let Some(next) = next.await else { return Ok(()) };
        let Some(chunk) = next else { break };
        let mut chunk = chunk.map_err(|error| Into::<Box<dyn std::error::Error>>::into(error).to_string())?;
        while !chunk.is_empty() {
            stream.reserve_capacity(chunk.len().min(CHUNK));
            let mut capacity = stream.capacity();
            while capacity == 0 {
                // Without capacity the peer has gone.
                let Some(more) = futures::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
                capacity = more.map_err(text)?;
            }
            stream.send_data(chunk.split_to(capacity.min(chunk.len())), false).map_err(text)?;
        }
    }
    stream.send_data(Bytes::new(), true).map_err(text)
}

/// The head of a reply; what only HTTP/1.1 has is left out.
fn head_of<B>(response: &Response<B>, size: BodySize) -> http02::Response<()> {
    const HOP_BY_HOP: [HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];
    let mut head = http02::Response::new(());
    *head.status_mut() = response.status();
    *head.version_mut() = http02::Version::HTTP_2;
    let headers = head.headers_mut();
    for (name, value) in response.headers() {
        let counted_anew = name == header::CONTENT_LENGTH && size != BodySize::Stream;
        if !HOP_BY_HOP.contains(name) && !counted_anew && !matches!(name.as_str(), "keep-alive" | "proxy-connection") {
            headers.append(name, value.clone());
        }
    }
    if let BodySize::Sized(length) = size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.entry(header::DATE).or_insert_with(|| {
        let now = header::HttpDate::from(std::time::SystemTime::now()).to_string();
        HeaderValue::try_from(now).expect("a date is header text")
    });
    head
}

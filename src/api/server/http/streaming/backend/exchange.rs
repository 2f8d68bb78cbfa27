//! The exchange with a backend: a request and its reply, or an upgraded connection.

use std::{
    io::{self, Read},
    sync::{Arc, LazyLock},
};

use actix_web::{
    HttpResponse,
    dev::Payload,
    http::{
        StatusCode,
        header::{self, HeaderMap},
    },
    rt::spawn,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Either, Empty, Limited, StreamBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    header::HeaderValue,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsConnector;
use tokio_util::io::ReaderStream;
use troupe_api::{aside, auth::any_peer, status::Status};

use super::{
    super::{client::ExchangeError, dialer::DialError, places::Places},
    links,
    passing::{copy_headers, insert, is_bodiless, length_of, request_headers, switched, unasked_switch, upload},
    rewrite::Rewrite,
};
use crate::{
    backends::{
        locate::{Backend, Transport},
        place::Kubelet,
    },
    http::{compress::gzipped, connect::ConnectRequest, outgoing::status_code},
    informational::Informational,
};

const DIAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
const CHUNK: usize = 32 << 10;
/// Longer pages, and pages that would become longer, are passed on with their links as they are.
const LONGEST_PAGE: usize = 2 << 20;
/// So much of pages may be here to be rewritten; while there is more, pages are passed on with their links as they are.
const PAGES: usize = 16 << 20;

static ROOM_FOR_PAGES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(PAGES)));

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Body = Either<Empty<Bytes>, StreamBody<futures::stream::LocalBoxStream<'static, Result<Frame<Bytes>, io::Error>>>>;

async fn dial(places: &Places, backend: &Backend) -> Result<Box<dyn Io>, DialError> {
    if let Transport::Kubelet { node } = &backend.transport {
        let kubelet = Kubelet { node: node.clone(), address: backend.address.clone() };
        return Ok(Box::new(places.dialer.dial(&kubelet).await?));
    }
    let address = backend.authority();
    let connecting = TcpStream::connect((backend.address.host.as_str(), backend.address.port));
    let timed = tokio::time::timeout(DIAL_TIMEOUT, connecting).await.map_err(|_| DialError::Timeout { address: address.clone() })?;
    let tcp = timed.map_err(|source| DialError::Connect { address: address.clone(), source })?;
    // A failure costs latency only.
    let _ = tcp.set_nodelay(true);
    if backend.transport == Transport::Http {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(backend.address.host.clone()).map_err(|_| DialError::Name(backend.address.host.clone()))?;
    let stream = TlsConnector::from(any_peer()).connect(name, tcp).await;
    Ok(Box::new(stream.map_err(|source| DialError::Tls { address, source })?))
}

/// Passes a request on and its reply back.
pub async fn forward(places: &Places, mut request: ConnectRequest, backend: Backend, path: &str, rewrite: &Rewrite) -> Result<HttpResponse, Status> {
    let unreachable = |why: &dyn std::fmt::Display| Status::unavailable(format!("error trying to reach service: {why}"));
    let mut headers = request_headers(&request.request, false);
    insert(&mut headers, "x-forwarded-uri", &rewrite.forwarded_uri(path));
    let body = body_of(request.request.headers(), std::mem::replace(&mut request.payload, Payload::None));
    let outgoing = outgoing(&request, path, headers, body)?;
    let stream = dial(places, &backend).await.map_err(|error| unreachable(&error))?;
    let reply = send(stream, outgoing).await.map_err(|error| unreachable(&error))?;
    answer(reply, rewrite).await
}

/// Passes an upgrade on; when the backend agrees, bytes go both ways until one side is done.
pub async fn upgrade(places: &Places, mut request: ConnectRequest, backend: Backend, path: &str) -> Result<HttpResponse, Status> {
    let failed = |why: &dyn std::fmt::Display| Status::internal(format!("error dialing backend: {why}"));
    let outgoing = outgoing(&request, path, request_headers(&request.request, true), Either::Left(Empty::new()))?;
    let stream = dial(places, &backend).await.map_err(|error| failed(&error))?;
    let mut reply = send(stream, outgoing).await.map_err(|error| failed(&error))?;
    let code = reply.status().as_u16();
    if code != 101 && code < 400 {
        return Err(Status::internal(format!("invalid upgrade response: status code {code}")));
    }
    if code != 101 {
        let mut response = HttpResponse::build(status_code(code));
        copy_headers(&reply, &mut response, |_, value| value.to_owned());
        return Ok(response.streaming(reply.into_body().into_data_stream()));
    }
    let protocol = switched(request.request.headers(), reply.headers()).map_err(|why| failed(&why))?;
    let upgraded = hyper::upgrade::on(&mut reply).await.map_err(|error| failed(&error))?;
    let mut response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
    copy_headers(&reply, &mut response, |_, value| value.to_owned());
    response.upgrade(protocol);
    let (input, output) = split(TokioIo::new(upgraded));
    spawn(upload(std::mem::replace(&mut request.payload, Payload::None), output));
    Ok(response.streaming(ReaderStream::with_capacity(input, CHUNK)))
}

async fn send(stream: Box<dyn Io>, mut request: Request<Body>) -> Result<Response<Incoming>, ExchangeError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection broke");
        }
    });
    let informational = Informational::of(&mut request);
    tokio::select! {
        biased;
        reply = sender.send_request(request) => reply.map_err(ExchangeError::from),
        () = informational.too_many() => Err(ExchangeError::TooManyInformational),
    }
}

fn outgoing(request: &ConnectRequest, path: &str, headers: hyper::HeaderMap, body: Body) -> Result<Request<Body>, Status> {
    let query = request.request.query_string();
    let path = if path.is_empty() { "/" } else { path };
    let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let method = Method::from_bytes(request.request.method().as_str().as_bytes()).map_err(Status::internal)?;
    let mut outgoing = Request::builder().method(method).uri(uri).body(body).map_err(|error| Status::bad_request(error.to_string()))?;
    *outgoing.headers_mut() = headers;
    Ok(outgoing)
}

/// A body only where the client announced one.
fn body_of(headers: &HeaderMap, payload: Payload) -> Body {
    if !headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::TRANSFER_ENCODING) {
        return Either::Left(Empty::new());
    }
    let frames = payload.map_ok(Frame::data).map_err(|error| io::Error::other(error.to_string()));
    Either::Right(StreamBody::new(frames.boxed_local()))
}

/// The backend's reply, with its redirects and links leading through the proxy.
async fn answer(reply: Response<Incoming>, rewrite: &Rewrite) -> Result<HttpResponse, Status> {
    let code = reply.status().as_u16();
    if code == 101 {
        return Ok(unasked_switch());
    }
    let mut response = HttpResponse::build(status_code(code));
    copy_headers(&reply, &mut response, |name, value| if name == "location" { rewrite.url(value) } else { value.to_owned() });
    if is_bodiless(code) {
        return Ok(response.body(actix_web::body::None::new()));
    }
    let text = |name| reply.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let length = length_of(&reply);
    let is_page = text(hyper::header::CONTENT_TYPE).split(';').next().is_some_and(|kind| kind.trim() == "text/html");
    let encoding = text(hyper::header::CONTENT_ENCODING).to_owned();
    let is_page = is_page && !reply.headers().contains_key(hyper::header::LOCATION) && matches!(&*encoding, "" | "gzip");
    if let Some(_room) = length.filter(|_| is_page).and_then(room_for_page) {
        let page = Limited::new(reply.into_body(), LONGEST_PAGE).collect().await;
        let page = page.map_err(|error| Status::unavailable(format!("error trying to reach service: {error}")))?.to_bytes();
        let (is_gzip, rewrite) = (encoding == "gzip", rewrite.clone());
        let rewriting = aside::compute(LONGEST_PAGE, move || rewritten(page, is_gzip, &rewrite));
        return Ok(response.body(rewriting.await));
    }
    if let Some(length) = length {
        response.no_chunking(length);
    }
    Ok(response.streaming(reply.into_body().into_data_stream()))
}

/// Room for a page of this length; `None` when it is too long, or too many are here.
fn room_for_page(length: u64) -> Option<OwnedSemaphorePermit> {
    let length = u32::try_from(length).ok().filter(|length| *length as usize <= LONGEST_PAGE)?;
    ROOM_FOR_PAGES.clone().try_acquire_many_owned(length.max(1)).ok()
}

/// A page with its links rewritten; what is no text, or becomes too long, stays as it is.
fn rewritten(page: Bytes, is_gzip: bool, rewrite: &Rewrite) -> Bytes {
    let unpacked = if is_gzip {
        let (mut unpacked, limit) = (Vec::new(), LONGEST_PAGE as u64 + 1);
        let read = flate2::read::GzDecoder::new(&page[..]).take(limit).read_to_end(&mut unpacked);
        if read.is_err() || unpacked.len() > LONGEST_PAGE {
            return page;
        }
        unpacked
    } else {
        page.to_vec()
    };
    let Ok(text) = String::from_utf8(unpacked) else { return page };
    let Some(text) = links::rewritten(&text, LONGEST_PAGE, |url| rewrite.url(url)) else { return page };
    if is_gzip { gzipped(text.as_bytes()).into() } else { text.into() }
}

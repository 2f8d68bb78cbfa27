//! Requests on groups and versions that other servers answer for: passed on as they are, as whoever calls, and the replies back.
//!
//! A request comes in after authentication and authorization; what it is about, only the other server knows. Its body and its reply are streamed,
//! watches and upgrades too. Replies about servers that cannot be asked are upstream's, in plain text.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::Payload,
    http::{
        Method, StatusCode, Version,
        header::{self, HeaderValue},
    },
    rt::spawn,
};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::{Request, Response, body::Frame, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::{
    io::split,
    sync::mpsc,
    time::{Instant, Sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::ReaderStream;
use troupe_api::{
    resources::{Registry, aggregated::DocumentV3},
    service::UserInfo,
    spans::{self, SpanKind},
    status::Status,
};

use super::{
    connections::{self, connection_of},
    limits::Held,
    outgoing::status_code,
    path::RequestInfo,
    sessions,
    streaming::{
        backend::passing::{copy_headers, insert, is_bodiless, length_of, request_headers, switched, unasked_switch, upload, wants_upgrade},
        kind::words,
    },
};
use crate::aggregation::{Aggregator, BackendError, OutgoingBody, RemoteService, whole};

/// Discovery documents must come fast: every client waits for all of them.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// So often a request may have been passed on before: servers that pass requests on to each other do not do that for ever.
const MOST_HOPS: usize = 8;
const CHUNK: usize = 32 << 10;
/// Pieces of a body on their way to the server.
const PIECES: usize = 2;

/// Who answers for what a path is about; `None` where that is this server.
pub fn of_path(aggregator: Option<&Aggregator>, registry: impl FnOnce() -> Arc<Registry>, path: &str) -> Option<RemoteService> {
    let aggregator = aggregator?;
    if let Some(below) = path.strip_prefix("/openapi/v3") {
        // Their documents are not kept here, if they have some.
        let (group, version) = RequestInfo::group_version(below)?;
        let registry = registry();
        let remote = registry.aggregated().version(&group, &version)?;
        let at_server = matches!(remote.documents.v3, Some(DocumentV3::AtServer { .. })) && is_document(below);
        return at_server.then(|| aggregator.find(&group, &version)).flatten();
    }
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next(), parts.next()) {
        (Some("apis"), Some(group), Some(version)) => aggregator.find(group, version),
        (Some("api"), Some(version), _) => aggregator.find("", version),
        _ => None,
    }
}

/// Whether a path is that of a group and version itself.
fn is_document(path: &str) -> bool {
    path.split('/').filter(|part| !part.is_empty()).count() == if path.starts_with("/apis") { 3 } else { 2 }
}

/// A request that is passed on.
pub struct Passing<'a> {
    pub request: &'a HttpRequest,
    pub user: &'a Arc<UserInfo>,
    pub service: RemoteService,
    /// It ends by then, whatever its server does; `None` for watches and connections.
    pub limit: Option<Duration>,
    /// What it keeps from others until its reply has ended.
    pub held: Held,
}

impl Passing<'_> {
    /// Passes the request on. Whatever goes wrong is told in upstream's words.
    pub async fn serve(self, payload: &mut Payload, kept: impl Unpin + 'static) -> HttpResponse {
        let deadline = self.limit.map(|limit| Instant::now() + limit);
        match self.exchange(payload).await {
            Ok(response) => {
                let response = response.map_body(|_, body| Bounded::new(body, deadline, kept).boxed());
                sessions::count(self.request, self.held, response)
            }
            Err(error) => refused(&error),
        }
    }

    async fn exchange(&self, payload: &mut Payload) -> Result<HttpResponse, BackendError> {
        self.service.usable()?;
        let request = self.request;
        let hops = request.headers().get_all("x-forwarded-for").flat_map(|value| value.as_bytes()).filter(|byte| **byte == b',').count();
        if hops >= MOST_HOPS {
            return Err(BackendError::Unreachable("the request was passed on too often".into()));
        }
        let backend = &self.service.backend;
        let authority = backend.authority().inspect_err(|error| {
            tracing::debug!(service = %self.service.spec.name, %error, "an API service leads nowhere");
        })?;
        // Upgrades to other protocols than WebSocket and SPDY, which comes as if it were one, are asked for in vain.
        let is_known = words(request.headers(), &header::UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case("websocket"));
        let upgrade = is_known && wants_upgrade(request.headers());
        let outgoing = self.outgoing(upgrade, std::mem::replace(payload, Payload::None)).map_err(BackendError::Unreachable)?;
        let (mut outgoing, rest) = outgoing;
        // It ends with the reply's beginning.
        let mut span = spans::begin(format!("HTTP {}", request.method()), SpanKind::Client);
        if let Some(span) = &mut span {
            span.set("server.address", authority.as_str());
            if let Some(traceparent) = span.cause().traceparent() {
                insert(outgoing.headers_mut(), "traceparent", &traceparent);
            }
        }
        let sending = backend.send(&authority, self.user, outgoing);
        let reply = tokio::select! {
            biased;
            () = connections::gone(connection_of(request)) => return Err(BackendError::Unreachable("the client is gone".into())),
            () = expired(self.head_limit()) => return Err(BackendError::TimedOut),
            reply = sending => reply?,
        };
        if upgrade { upgraded(reply, rest, request.headers()).await } else { Ok(answer(reply)) }
    }

    /// How long the beginning of the reply may take.
    fn head_limit(&self) -> Option<Duration> {
        if is_document(self.request.path()) { Some(self.limit.map_or(DISCOVERY_TIMEOUT, |limit| limit.min(DISCOVERY_TIMEOUT))) } else { self.limit }
    }

    /// The request for the server; of an upgrade the client's bytes that follow it.
    fn outgoing(&self, upgrade: bool, payload: Payload) -> Result<(Request<OutgoingBody>, Payload), String> {
        let request = self.request;
        let uri = request.uri().path_and_query().map_or("/", |uri| uri.as_str());
        let (body, rest) = if upgrade { (whole(Bytes::new()), payload) } else { (body_of(request, payload), Payload::None) };
        let mut outgoing = Request::builder().method(request.method().as_str()).uri(uri).body(body).map_err(|error| error.to_string())?;
        let mut headers = request_headers(request, upgrade);
        insert(&mut headers, "x-forwarded-uri", request.path());
        insert(&mut headers, "x-forwarded-host", request.connection_info().host());
        insert(&mut headers, "x-forwarded-proto", "https");
        *outgoing.headers_mut() = headers;
        Ok((outgoing, rest))
    }
}

async fn expired(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// A body where there may be one: over HTTP/2 nothing has to announce it.
fn body_of(request: &HttpRequest, mut payload: Payload) -> OutgoingBody {
    let headers = request.headers();
    let announced = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    let may_have_one = request.version() == Version::HTTP_2 && !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !announced && !may_have_one {
        return whole(Bytes::new());
    }
    // The client's side of a request stays on its worker.
    let (sender, receiver) = mpsc::channel(PIECES);
    spawn(async move {
        while let Some(piece) = payload.next().await {
            let piece = piece.map(Frame::data).map_err(|error| io::Error::other(error.to_string()));
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(ReceiverStream::new(receiver)))
}

fn answer(reply: Response<Incoming>) -> HttpResponse {
    let code = reply.status().as_u16();
    // Upgrades that were asked for do not come here.
    if code == 101 {
        return unasked_switch();
    }
    if (300..400).contains(&code) && reply.headers().contains_key(hyper::header::LOCATION) {
        return HttpResponse::BadGateway().body("the backend attempted to redirect this request, which is not permitted");
    }
    let mut response = HttpResponse::build(status_code(code));
    copy_headers(&reply, &mut response, |_, value| value.to_owned());
    if is_bodiless(code) {
        return response.body(actix_web::body::None::new());
    }
    if let Some(length) = length_of(&reply) {
        response.no_chunking(length);
    }
    response.streaming(reply.into_body().into_data_stream())
}

/// An upgrade: when the server agrees, bytes go both ways until one side is done.
async fn upgraded(mut reply: Response<Incoming>, payload: Payload, asked: &header::HeaderMap) -> Result<HttpResponse, BackendError> {
    let code = reply.status().as_u16();
    if code != 101 {
        return Ok(answer(reply));
    }
    let protocol = switched(asked, reply.headers()).map_err(BackendError::Unreachable)?;
    let stream = hyper::upgrade::on(&mut reply).await.map_err(|error| BackendError::Unreachable(error.to_string()))?;
    let mut response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
    copy_headers(&reply, &mut response, |_, value| value.to_owned());
    response.upgrade(protocol);
    let (input, output) = split(TokioIo::new(stream));
    spawn(upload(payload, output));
    Ok(response.streaming(ReaderStream::with_capacity(input, CHUNK)))
}

/// What a client is told of a server that does not answer.
fn refused(error: &BackendError) -> HttpResponse {
    let status = Status::from(error);
    HttpResponse::build(status_code(status.code))
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .body(format!("{}\n", status.message))
}

/// A reply that ends in its time.
struct Bounded<K> {
    body: BoxBody,
    deadline: Option<Pin<Box<Sleep>>>,
    _kept: K,
}

impl<K> Bounded<K> {
    fn new(body: BoxBody, deadline: Option<Instant>, kept: K) -> Self {
        Bounded { body, deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))), _kept: kept }
    }
}

impl<K: Unpin> MessageBody for Bounded<K> {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let is_over = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready());
        if is_over {
            return Poll::Ready(Some(Err("the server did not send its whole answer in time".into())));
        }
        Pin::new(&mut self.body).poll_next(context)
    }
}

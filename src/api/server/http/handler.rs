//! The one handler: bounds every request, finds out who calls, and dispatches.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::Payload,
    http::{
        ConnectionType, Method, Version,
        header::{self, HeaderName, HeaderValue},
    },
    web,
};
use bytes::Bytes;
use futures::FutureExt;
use tracing::Instrument;
use troupe_api::{
    aside,
    auth::{Attributes, groups::holder},
    expressions::go_duration,
    meta::Cause,
    notices::Notices,
    service::UserInfo,
    spans,
    status::{Status, StatusDetails},
};

use super::{
    accept,
    aggregation::{self, Passing},
    audit_context::AuditContext,
    authorize::authorize,
    body, compress, connect,
    connections::{Connection, Work, connection_of},
    cors, documents, identity,
    impersonation::impersonate,
    monitor::Monitor,
    most_in_flight::InWork,
    options::RawRequest,
    outgoing,
    path::RequestInfo,
    query::Query,
    request_span::{self, AuditId},
    resource::{self, Exchange},
    route::{self, method_not_allowed, request_verb},
    shared::Shared,
    slices,
    user_agent::user_agent,
    warnings,
};
use crate::{
    aggregation::RemoteService,
    flow::{Classified, Parts, WorkEstimate},
};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");

/// Answers any request; whatever goes wrong becomes a `Status`.
pub async fn handle(request: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> HttpResponse {
    let connection = connection_of(&request);
    let work = connection.as_ref().map(Connection::begin);
    if connection.as_ref().is_some_and(|connection| connection.is_turn_over()) {
        tokio::task::yield_now().await;
    }
    let response = answer(&request, payload, &shared, connection.as_deref()).await;
    match response.body().size() {
        BodySize::Stream => response.map_body(|_, body| Lasting { body, _work: work }.boxed()),
        _ => response,
    }
}

/// A stream whose connection is at work until it ends.
struct Lasting {
    body: BoxBody,
    _work: Option<Work>,
}

impl MessageBody for Lasting {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

async fn answer(request: &HttpRequest, payload: web::Payload, shared: &Shared, connection: Option<&Connection>) -> HttpResponse {
    if !shared.compresses {
        request.extensions_mut().insert(compress::Uncompressed);
    }
    let audit_id = audit_id(request);
    let audit = AuditContext::new(shared.options.audit.clone(), audit_id.to_str().unwrap_or(""));
    if shared.options.tracer.is_some() {
        request.extensions_mut().insert(AuditId(audit_id.clone()));
    }
    let mut payload = payload.into_inner();
    let monitor = Monitor::begin();
    let notices = Notices::default();
    let origin = shared.options.cors.as_ref().and_then(|cors| cors.of(request.headers()));
    let outcome = match &origin {
        // A browser asks before it sends anything: nobody's credentials are looked at.
        Some(_) if *request.method() == Method::OPTIONS => Ok(Ok(HttpResponse::NoContent().finish())),
        _ => {
            let bounded = bounded(shared, request, &mut payload, connection, (&monitor, &audit, &notices));
            AssertUnwindSafe(bounded).catch_unwind().await
        }
    };
    let broke = outcome.is_err();
    let classified = request.extensions().get::<Classified>().cloned();
    let outcome = outcome.unwrap_or_else(|panic| Err(panicked(request, &*panic)));
    let (mut response, failure) = match outcome.and_then(|response| slices::keep(request, &shared.replies, response)) {
        Ok(response) => (response, None),
        Err(status) => (refuse(request, &mut payload, connection, &status).await, Some(status)),
    };
    if let Some(connection) = connection.filter(|_| request.version() == Version::HTTP_2 && goes_away(shared.options.goaway_chance)) {
        connection.close_after_reply();
    }
    if connection.is_some_and(Connection::is_closing) {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    if let Some(classified) = &classified {
        // UIDs are header text.
        for (name, uid) in [(FLOW_SCHEMA, classified.schema_uid()), (PRIORITY_LEVEL, classified.level_uid())] {
            if let Ok(uid) = HeaderValue::from_str(uid) {
                headers.insert(name, uid);
            }
        }
    }
    headers.insert(AUDIT_ID, audit_id);
    if let Some(directives) = shared.options.strict_transport_security.as_ref().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, directives);
    }
    if let Some(origin) = origin {
        cors::allow(headers, origin);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, NO_CACHE);
    }
    warnings::add(&mut response, &notices.warnings());
    audit.annotate(notices.annotations());
    audit.replied(monitor.answer(response), failure.as_ref(), broke).await
}

/// Whether a request is the last one of its connection, by a chance between 0 and 1.
fn goes_away(chance: f64) -> bool {
    chance > 0.0 && rand::random::<f64>() < chance
}

async fn refuse(request: &HttpRequest, payload: &mut Payload, connection: Option<&Connection>, status: &Status) -> HttpResponse {
    let query = Query::parse(request.query_string());
    let encoding = accept::encoding_of_failure(accept::header(request));
    let mut response = outgoing::failure(status, encoding, accept::wants_pretty(&query, user_agent(request)));
    if status.code == 408 || !body::drain(request, payload).await {
        response.head_mut().set_connection_type(ConnectionType::Close);
        // Of the streams of HTTP/2 one ends without the others.
        if request.version() < Version::HTTP_2
            && let Some(connection) = connection
        {
            connection.refuse();
        }
    }
    response
}

fn panicked(request: &HttpRequest, panic: &(dyn Any + Send)) -> Status {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("");
    tracing::error!(path = request.path(), panic = text, "a request panicked");
    Status::internal("this request caused the API server to panic; look in its log for details")
}

/// The client's Audit-ID, or a new one.
fn audit_id(request: &HttpRequest) -> HeaderValue {
    match request.headers().get(AUDIT_ID).filter(|id| !id.is_empty() && id.len() <= 64) {
        Some(id) => id.clone(),
        None => {
            // Asking the kernel for each costs more than all of it.
            let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            HeaderValue::from_str(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())).expect("a UUID is header text")
        }
    }
}

/// Applies the limits of number and time.
async fn bounded(
    shared: &Shared,
    request: &HttpRequest,
    payload: &mut Payload,
    connection: Option<&Connection>,
    (monitor, audit, notices): (&Monitor, &AuditContext, &Notices),
) -> Result<HttpResponse, Status> {
    let path = request.path();
    let info = RequestInfo::parse(path);
    let query = Query::parse(request.query_string());
    if query.is_too_long() {
        return Err(Status::bad_request("number of URL query parameters exceeded limit"));
    }
    let verb = if info.is_resource { request_verb(&info, request.method(), &query) } else { "" };
    if info.is_resource && shared.stopping.is_cancelled() {
        return Err(stopping(shared, connection));
    }
    let span = tracing::debug_span!("http", verb, resource = &*info.resource);
    let work = dispatch(Arrived { shared, request, info: &info, query: &query, connection, monitor, audit, notices }, payload).instrument(span);
    if verb == "watch" || connect::is_connect(&info.subresource) {
        return work.await;
    }
    let _in_work = InWork::begin(request.method());
    let limit = time_limit(&query, shared.options.request_timeout)?;
    let timed_out = |_| Status::timeout("Timeout: request did not complete within the allotted timeout");
    tokio::time::timeout(limit, work).await.map_err(timed_out)?
}

/// What connections that are still open get while the server stops: nothing was done, another server may do it.
fn stopping(shared: &Shared, connection: Option<&Connection>) -> Status {
    if shared.options.retry_after_while_stopping {
        if let Some(connection) = connection {
            connection.close_after_reply();
        }
        return Status::too_many_requests("The apiserver is shutting down, please try again later.", 5);
    }
    let details = StatusDetails { retry_after_seconds: 1, ..StatusDetails::default() };
    Status { details: Some(Box::new(details)), ..Status::unavailable("the API server is shutting down") }
}

/// `?timeout=` as Go writes durations, at most `longest`; zero and less ask for nothing.
fn time_limit(query: &Query, longest: Duration) -> Result<Duration, Status> {
    let Some(text) = query.text("timeout").filter(|text| !text.is_empty()) else { return Ok(longest) };
    let nanos = go_duration(text).map_err(|why| Status::bad_request(format!("invalid timeout specified in the request URL - {why}")))?;
    Ok(u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map_or(longest, |nanos| longest.min(Duration::from_nanos(nanos))))
}

/// A request whose path and query are read.
#[derive(Clone, Copy)]
struct Arrived<'a> {
    shared: &'a Shared,
    request: &'a HttpRequest,
    info: &'a RequestInfo<'a>,
    query: &'a Query,
    connection: Option<&'a Connection>,
    monitor: &'a Monitor,
    audit: &'a AuditContext,
    notices: &'a Notices,
}

/// Finds out who calls, and as whom; the audit log hears of it in between.
async fn identify(arrived: &Arrived<'_>, asked: &Attributes<'_>) -> Result<Arc<UserInfo>, Status> {
    let Arrived { shared, request, info, connection, audit, notices, .. } = arrived;
    let options = &shared.options;
    let certificate = connection.and_then(|connection| connection.certificate());
    let caller = match identity::authenticate(
        request,
        certificate,
        (&*options.authenticator, options.request_headers.as_deref()),
        options.takes_anonymous(request.path()),
        notices,
    )
    .await
    {
        Ok(caller) => caller,
        Err(status) => {
            audit.unauthenticated(request, asked, &status, notices).await;
            return Err(status);
        }
    };
    if let Some(connection) = connection.filter(|_| caller.name != identity::ANONYMOUS) {
        shared.connections.identified(connection, &caller)?;
    }
    request.extensions_mut().insert(caller.clone());
    let long_running = asked.verb == "watch" || info.is_resource && connect::is_connect(&info.subresource);
    audit.received(request, &caller, asked, long_running).await?;
    if audit.records_requests() {
        notices.record_requests();
    }
    let Some(impersonated) = impersonate(request, &caller, asked, &*options.authorizer, &options.features).await? else { return Ok(caller) };
    audit.impersonated(&impersonated);
    Ok(impersonated.user)
}

async fn dispatch(arrived: Arrived<'_>, payload: &mut Payload) -> Result<HttpResponse, Status> {
    let Arrived { shared, request, info, query, monitor, .. } = arrived;
    let verb = request.method().as_str().to_ascii_lowercase();
    let asked = match info.is_resource {
        true => route::attributes(info, request_verb(info, request.method(), query)),
        false => Attributes { verb: &verb, path: Some(request.path()), ..Attributes::default() },
    };
    let user = identify(&arrived, &asked).await?;
    let said = said(request);
    // A client that is not to be believed has no word on what is sampled.
    let own = Cause { sampled: false, ..said.clone().unwrap_or_else(Cause::root) };
    let Some(tracer) = &shared.options.tracer else { return perform(arrived, payload, (user, &asked), own).await };
    let place = (said.as_ref(), if said.is_some() { rand::random() } else { own.trace });
    let Some(mut span) = request_span::begin(tracer, request, info, &user, place) else {
        return perform(arrived, payload, (user, &asked), own).await;
    };
    span.began_before(monitor.elapsed());
    let cause = Cause { object: own.object, ..span.cause() };
    // Few are sampled: the future of all others is not to have the room for that.
    let outcome = Box::pin(spans::within(span.scope(), perform(arrived, payload, (user, &asked), cause))).await;
    request_span::answered(&mut span, &outcome);
    outcome
}

/// Does what a known caller asks for, because of `cause`.
async fn perform(
    arrived: Arrived<'_>,
    payload: &mut Payload,
    (user, asked): (Arc<UserInfo>, &Attributes<'_>),
    cause: Cause,
) -> Result<HttpResponse, Status> {
    let Arrived { shared, request, info, query, monitor, audit, notices, .. } = arrived;
    let (options, path) = (&shared.options, request.path());
    let connects = info.is_resource && connect::is_connect(&info.subresource);
    let classified = options.flow.as_ref().filter(|_| !connects).and_then(|flow| flow.classify(&user, asked));
    if let Some(classified) = &classified {
        request.extensions_mut().insert(classified.clone());
    }
    if let Some(service) = aggregation::of_path(options.aggregator.as_deref(), || options.service.registry(), path) {
        authorize(&*options.authorizer, &user, asked).await?;
        return pass_on(&arrived, payload, (user, service), &classified).await;
    }
    // Health and discovery must answer under load too; the others take a seat once their bodies are there.
    if info.is_resource {
        // An administrator's work waits for no user's.
        let is_exempt = classified.as_ref().is_some_and(|classified| classified.is_exempt());
        let behalf = Arc::from(if is_exempt { "" } else { holder(&user) });
        let exchange = Exchange { shared, request, info, query, user, cause, classified, monitor, audit, notices };
        return aside::on_behalf_of(behalf, resource::serve(exchange, payload)).await;
    }
    authorize(&*options.authorizer, &user, asked).await?;
    let route = options.routes.iter().find(|route| route.serves(path));
    let takes = |method: &Method| route.map_or_else(|| matches!(*method, Method::GET | Method::HEAD), |route| route.takes(method));
    if !takes(request.method()) {
        return Err(method_not_allowed());
    }
    if let Some(response) = documents::document(shared, request, query).await? {
        return Ok(response);
    }
    let route = route.ok_or_else(Status::page_not_found)?;
    let raw = RawRequest {
        path: path.to_owned(),
        query: request.query_string().to_owned(),
        accept: accept::header(request).to_owned(),
        user_agent: user_agent(request).to_owned(),
        user,
    };
    // One that is refused counts, too.
    monitor.paged(request, path, None);
    let reply = (route.handler)(raw).await?;
    monitor.paged(request, path, reply.version);
    if let Some(warning) = reply.warning {
        notices.warn(warning);
    }
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type)));
    if let Some(caching) = reply.caching {
        response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static(caching)));
    }
    Ok(response.body(reply.body))
}

/// Has another server answer. Until it has, the request is counted as any other.
async fn pass_on(
    arrived: &Arrived<'_>,
    payload: &mut Payload,
    (user, service): (Arc<UserInfo>, RemoteService),
    classified: &Option<Classified>,
) -> Result<HttpResponse, Status> {
    let Arrived { shared, request, info, query, .. } = arrived;
    // Upstream has no safe mode, and so no words for it that clients look for: people read a status.
    service.backend.open().map_err(|error| Status::from(&error))?;
    let lasts = is_lasting(info, request.method(), query);
    let exempt = classified.as_ref().is_some_and(Classified::is_exempt);
    let mut held = shared.sessions.hold(&user, exempt);
    held.add(1)?;
    let takes_seat = info.is_resource && !lasts;
    let place = takes_seat.then(|| shared.in_flight.begin());
    let seat = match classified {
        Some(classified) if takes_seat => {
            let verb = request_verb(info, request.method(), query);
            let parts = Parts::new([verb, request.path(), &info.namespace, &info.name, &info.version, &info.resource, &info.subresource]);
            Some(classified.seat(WorkEstimate::ONE, &user, parts, false).await?)
        }
        _ => None,
    };
    let limit = if lasts { None } else { Some(time_limit(query, shared.options.request_timeout)?) };
    let passing = Passing { request, user: &user, service, limit, held };
    Ok(passing.serve(payload, (place, seat)).await)
}

/// Whether a request lasts as long as its client wants.
fn is_lasting(info: &RequestInfo<'_>, method: &Method, query: &Query) -> bool {
    info.is_resource && (request_verb(info, method, query) == "watch" || connect::is_connect(&info.subresource))
}

/// The cause that `traceparent` and `tracestate` name, if they do.
fn said(request: &HttpRequest) -> Option<Cause> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let cause = header("traceparent").and_then(Cause::from_traceparent)?;
    Some(cause.with_tracestate(header("tracestate").unwrap_or("")))
}

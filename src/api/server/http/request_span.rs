//! The span of a request, where it is sampled: upstream's name and attributes (`WithTracing`, those of OpenTelemetry for HTTP servers).

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    http::{
        Version,
        header::{self, HeaderValue},
    },
};
use troupe_api::{
    auth::groups::{MASTERS, MONITORING},
    meta::Cause,
    service::UserInfo,
    spans::{Active, SpanKind, Tracer},
    status::Status,
};

use super::{path::RequestInfo, user_agent::user_agent};

/// The name of a request in the audit log, beside it while spans are made.
pub struct AuditId(pub HeaderValue);

/// Begins the span of a request, unless that is not sampled. `said` is what its client said of its trace, `own` the trace that it is in otherwise.
pub fn begin(tracer: &Tracer, request: &HttpRequest, info: &RequestInfo<'_>, user: &UserInfo, (said, own): (Option<&Cause>, u128)) -> Option<Active> {
    let place = tracer.place(said, own, is_privileged(user))?;
    let mut span = tracer.begin(name(request.method().as_str(), request.path(), info), SpanKind::Server, place);
    describe(&mut span, request);
    Some(span)
}

/// Whose word on what is sampled is taken.
fn is_privileged(user: &UserInfo) -> bool {
    user.groups.iter().any(|group| group == MASTERS || group == MONITORING)
}

/// `GET /api/v1/namespaces/{:namespace}/pods/{:name}`; of what is no resource the method alone.
fn name(method: &str, path: &str, info: &RequestInfo<'_>) -> String {
    if !info.is_resource {
        return method.to_owned();
    }
    let mut name = format!("{method} /{}", if path.starts_with("/apis") { "apis" } else { "api" });
    let parts = [
        &*info.group,
        &*info.version,
        if info.namespace.is_empty() { "" } else { "namespaces/{:namespace}" },
        &*info.resource,
        if info.name.is_empty() { "" } else { "{:name}" },
        &*info.subresource,
    ];
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        name.push('/');
        name.push_str(part);
    }
    name
}

fn describe(span: &mut Active, request: &HttpRequest) {
    let connection = request.connection_info();
    let host = connection.host();
    match host.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => {
            span.set("server.address", host.trim_matches(['[', ']']));
            span.set("server.port", i64::from(port));
        }
        None => span.set("server.address", host),
    }
    span.set("http.request.method", request.method().as_str());
    span.set("url.scheme", "https");
    span.set("url.path", request.path());
    span.set("http.target", request.uri().path_and_query().map_or("", |uri| uri.as_str()));
    if let Some(peer) = request.peer_addr() {
        span.set("network.peer.address", peer.ip().to_string());
        span.set("network.peer.port", i64::from(peer.port()));
        let forwarded = request.headers().get(header::X_FORWARDED_FOR).and_then(|value| value.to_str().ok()?.split(',').next());
        span.set("client.address", forwarded.map_or_else(|| peer.ip().to_string(), |client| client.trim().to_owned()));
    }
    let agent = user_agent(request);
    if !agent.is_empty() {
        span.set("user_agent.original", agent);
    }
    span.set("network.protocol.version", if request.version() == Version::HTTP_2 { "2.0" } else { "1.1" });
    if let Some(AuditId(id)) = request.extensions().get::<AuditId>() {
        span.set("audit-id", id.to_str().unwrap_or_default());
    }
}

/// Says what came of the request. Failures are those of the server, as upstream has it.
pub fn answered(span: &mut Active, outcome: &Result<HttpResponse, Status>) {
    let code = match outcome {
        Ok(response) => {
            if let BodySize::Sized(length) = response.body().size() {
                span.set("http.response.body.size", i64::try_from(length).unwrap_or(i64::MAX));
            }
            response.status().as_u16()
        }
        Err(status) => status.code,
    };
    span.set("http.response.status_code", i64::from(code));
    if code >= 500 {
        span.fail(outcome.as_ref().err().map(|status| status.message.clone()).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::test::TestRequest;
    use troupe_api::{meta::SystemClock, spans::Value};

    use super::*;

    #[test]
    fn names_say_what_is_asked_for_and_no_names_of_objects() {
        for (path, wanted) in [
            ("/api/v1/namespaces/a/pods/p/log", "GET /api/v1/namespaces/{:namespace}/pods/{:name}/log"),
            ("/apis/apps/v1/namespaces/a/deployments", "GET /apis/apps/v1/namespaces/{:namespace}/deployments"),
            ("/api/v1/nodes/n", "GET /api/v1/nodes/{:name}"),
            ("/healthz", "GET"),
        ] {
            assert_eq!(name("GET", path, &RequestInfo::parse(path)), wanted);
        }
    }

    #[test]
    fn a_span_tells_of_the_request_and_of_what_came_of_it() {
        let (tracer, mut spans) = Tracer::new("apiserver", 1_000_000, Arc::new(SystemClock));
        let path = "/api/v1/nodes?limit=5";
        let request = TestRequest::get().uri(path).insert_header(("host", "[fd00::1]:6443")).insert_header(("user-agent", "kubectl/1"));
        let request = request.peer_addr("192.0.2.7:4444".parse().expect("an address")).to_http_request();
        request.extensions_mut().insert(AuditId(HeaderValue::from_static("a-b")));
        let info = RequestInfo::parse(request.path());
        let mut span = begin(&tracer, &request, &info, &UserInfo::default(), (None, 7)).expect("all are sampled");
        answered(&mut span, &Err(Status::internal("broken")));
        drop(span);
        let span = spans.try_recv().expect("it ended");
        assert_eq!((&*span.name, span.kind, span.trace, span.parent), ("GET /api/v1/nodes", SpanKind::Server, 7, 0));
        for (key, value) in [
            ("server.address", Value::from("fd00::1")),
            ("server.port", 6443.into()),
            ("http.request.method", "GET".into()),
            ("http.target", path.into()),
            ("network.peer.address", "192.0.2.7".into()),
            ("client.address", "192.0.2.7".into()),
            ("user_agent.original", "kubectl/1".into()),
            ("http.response.status_code", 500.into()),
            ("audit-id", "a-b".into()),
        ] {
            assert!(span.attributes.contains(&(key, value)), "{key} in {span:?}");
        }
        assert!(span.failure.is_some());
    }

    #[test]
    fn only_the_word_of_privileged_groups_is_taken() {
        let (tracer, mut spans) = Tracer::new("apiserver", 0, Arc::new(SystemClock));
        let request = TestRequest::get().uri("/api/v1/nodes").to_http_request();
        let said = Cause { sampled: true, ..Cause::root() };
        let of = |group: &str| {
            let user = UserInfo { groups: vec![group.into()], ..UserInfo::default() };
            begin(&tracer, &request, &RequestInfo::parse(request.path()), &user, (Some(&said), 7)).is_some()
        };
        assert!(!of("system:nodes"));
        assert!(of(MASTERS) && of(MONITORING));
        assert!(of("system:nodes"), "it goes on with a trace that was sampled here");
        let traces: Vec<u128> = std::iter::from_fn(|| spans.try_recv().ok()).map(|span| span.trace).collect();
        assert_eq!(traces, [said.trace; 3]);
    }
}

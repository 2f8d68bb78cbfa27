//! Spans as a collector takes them. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use troupe_api::spans::{Span, SpanKind, Value};

use super::proto;

/// What made the spans.
const SCOPE: &str = "troupe";

/// A request with these spans, those of each component by themselves. `resource` is told of all of them.
pub fn request(spans: Vec<Span>, resource: &[(&'static str, String)]) -> proto::ExportRequest {
    let mut by_component = BTreeMap::<String, Vec<proto::Span>>::new();
    for span in spans {
        by_component.entry(span.component.to_string()).or_default().push(message(span));
    }
    let resource_spans = by_component.into_iter().map(|(component, spans)| {
        let told = resource.iter().map(|(key, value)| attribute(key, Value::Text(value.clone())));
        let attributes = std::iter::once(attribute("service.name", Value::Text(component))).chain(told).collect();
        let scope = proto::InstrumentationScope { name: SCOPE.into(), version: env!("CARGO_PKG_VERSION").into() };
        let scope_spans = vec![proto::ScopeSpans { scope: Some(scope), spans }];
        proto::ResourceSpans { resource: Some(proto::Resource { attributes }), scope_spans }
    });
    proto::ExportRequest { resource_spans: resource_spans.collect() }
}

fn message(span: Span) -> proto::Span {
    let kind = match span.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
    };
    let link = |(trace, span): (u128, u64)| proto::Link { trace_id: trace.to_be_bytes().to_vec(), span_id: span.to_be_bytes().to_vec() };
    proto::Span {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.span.to_be_bytes().to_vec(),
        parent_span_id: if span.parent == 0 { Vec::new() } else { span.parent.to_be_bytes().to_vec() },
        name: span.name.into_owned(),
        kind,
        start_time_unix_nano: nanoseconds(span.begun),
        end_time_unix_nano: nanoseconds(span.ended),
        attributes: span.attributes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
        links: span.link.into_iter().map(link).collect(),
        status: span.failure.map(|message| proto::SpanStatus { message, code: proto::STATUS_ERROR }),
    }
}

fn attribute(key: &str, value: Value) -> proto::KeyValue {
    let value = match value {
        Value::Text(text) => proto::Value::Text(text),
        Value::Number(number) => proto::Value::Number(number),
    };
    proto::KeyValue { key: key.to_owned(), value: Some(proto::AnyValue { value: Some(value) }) }
}

/// Since the epoch; 0 for times before it.
fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn span(component: &'static str, name: &'static str) -> Span {
        let (begun, ended) = (Timestamp::from_second(1).expect("a time"), Timestamp::from_second(3).expect("a time"));
        Span { component: component.into(), name: name.into(), trace: 0x0102, span: 0x0304, begun, ended, ..Span::default() }
    }

    fn text(attributes: &[proto::KeyValue], key: &str) -> Option<String> {
        match attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()? {
            proto::Value::Text(text) => Some(text.clone()),
            proto::Value::Number(_) => None,
        }
    }

    #[test]
    fn spans_are_told_by_component_with_all_that_they_say() {
        let failed = Span {
            kind: SpanKind::Client,
            parent: 5,
            link: Some((6, 7)),
            attributes: vec![("http.response.status_code", 500.into())],
            failure: Some("broken".into()),
            ..span("apiserver", "POST /api/v1/pods")
        };
        let made = request(vec![failed, span("kube-scheduler", "Schedule scheduler"), span("apiserver", "GET")], &[("host.name", "one".into())]);
        let bytes = made.encode_to_vec();
        assert_eq!(proto::ExportRequest::decode(&bytes[..]).as_ref(), Ok(&made));
        let components: Vec<_> = made.resource_spans.iter().map(|spans| spans.resource.clone().unwrap_or_default().attributes).collect();
        let names: Vec<_> = components.iter().map(|attributes| (text(attributes, "service.name"), text(attributes, "host.name"))).collect();
        let one = Some("one".to_owned());
        assert_eq!(names, [(Some("apiserver".to_owned()), one.clone()), (Some("kube-scheduler".to_owned()), one)]);
        let [failed, plain] = &made.resource_spans[0].scope_spans[0].spans[..] else { panic!("two of the API server") };
        assert_eq!((failed.kind, failed.parent_span_id.as_slice()), (3, &[0, 0, 0, 0, 0, 0, 0, 5][..]));
        assert_eq!((failed.trace_id.len(), &failed.trace_id[14..], failed.span_id.as_slice()), (16, &[1, 2][..], &[0, 0, 0, 0, 0, 0, 3, 4][..]));
        assert_eq!(failed.links[0].span_id, 7u64.to_be_bytes());
        assert_eq!(failed.status, Some(proto::SpanStatus { message: "broken".into(), code: 2 }));
        assert_eq!((plain.parent_span_id.len(), plain.links.len(), plain.status.clone()), (0, 0, None));
        assert_eq!((plain.start_time_unix_nano, plain.end_time_unix_nano), (1_000_000_000, 3_000_000_000));
    }
}

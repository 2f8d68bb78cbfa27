//! What stands in a request's first line and headers.

use std::sync::LazyLock;

use troupe_api::{meta::Cause, resources, service::Target};
use troupe_api_server::http::{
    accept,
    fuzzing::{Query, list_options, watch_options},
    path::RequestInfo,
    streaming::{LogOptions, StreamOptions, escaped, query_values},
};

use crate::budget;

static PODS: LazyLock<Target> = LazyLock::new(|| {
    let pods = resources::builtin().into_iter().find(|row| &*row.plural == "pods" && row.group.is_empty()).expect("pods are built in");
    Target { resource: pods, version: "v1".into(), namespace: "".into(), name: "".into(), subresource: "".into() }
});

/// A line each: path, query, Accept, traceparent, tracestate.
pub fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let pods = &*PODS;
    let mut lines = text.splitn(5, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, raw, accepted, parent, state) = (line(), line(), line(), line(), line());
    budget::hold(data.len(), || {
        drop(RequestInfo::parse(path));
        drop(RequestInfo::group_version(path));
        drop(accept::clauses(accepted));
        drop(Cause::from_traceparent(parent).map(|cause| cause.with_tracestate(state)));
    });
    let query = budget::hold(raw.len(), || Query::parse(raw));
    budget::hold(raw.len(), || {
        drop(list_options(&query, pods));
        drop(watch_options(&query, pods));
        drop(LogOptions::parse(raw, "p"));
        drop(StreamOptions::of_api(raw));
        drop(StreamOptions::of_kubelet(raw));
    });
    let once = query_values(&format!("x={}", escaped(raw)), "x");
    assert_eq!(once, [raw], "escaping loses something");
}

//! What the front door counts: every request on a resource by upstream's labels, streams until they end.

use std::{
    cell::{Cell, OnceCell, RefCell},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    http::header,
};
use bytes::Bytes;
use troupe_api::{
    metrics::{Collect, Counter, Family, Gauge, Histogram, Memo, REQUEST_SECONDS, exponential},
    resources::Resource,
    service::Target,
};

use super::{
    deprecation,
    most_in_flight::InFlightMetrics,
    query::Query,
    route::{Action, Route},
    user_agent::user_agent,
};

const COMPONENT: &str = "apiserver";
/// Upstream's buckets for the service level indicator.
const SLI_SECONDS: [f64; 21] = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
const WATCH_LIST_SECONDS: [f64; 17] = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
const SIZES: [f64; 7] = exponential(1000.0, 10.0);
const EVENT_SIZES: [f64; 8] = exponential(1024.0, 2.0);
const SERIES: [&str; 7] = ["verb", "group", "version", "resource", "subresource", "scope", "component"];

static REQUESTS: Family<Counter> = Family::new(
    "apiserver_request_total",
    "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
    &["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code", "system_client"],
);
static DURATIONS: Family<Histogram> = Family::histogram(
    "apiserver_request_duration_seconds",
    "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
    &["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"],
    &REQUEST_SECONDS,
);
static SLI_DURATIONS: Family<Histogram> = Family::histogram(
    "apiserver_request_sli_duration_seconds",
    "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
    &SERIES,
    &SLI_SECONDS,
);
static RESPONSE_SIZES: Family<Histogram> = Family::histogram(
    "apiserver_response_sizes",
    "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
    &SERIES,
    &SIZES,
);
static LONG_RUNNING: Family<Gauge> = Family::new(
    "apiserver_longrunning_requests",
    "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
    &SERIES,
);
static TERMINATIONS: Family<Counter> = Family::new(
    "apiserver_request_terminations_total",
    "Number of requests which apiserver terminated in self-defense.",
    &["verb", "group", "version", "resource", "subresource", "scope", "component", "code"],
);
static WATCH_EVENTS: Family<Counter> =
    Family::new("apiserver_watch_events_total", "Number of events sent in watch clients", &["group", "version", "resource"]);
static WATCH_EVENT_SIZES: Family<Histogram> =
    Family::histogram("apiserver_watch_events_sizes", "Watch event size distribution in bytes", &["group", "version", "resource"], &EVENT_SIZES);

static WATCH_LISTS: Family<Histogram> = Family::histogram(
    "apiserver_watch_list_duration_seconds",
    "Response latency distribution in seconds for watch list requests broken by group, version, resource and scope.",
    &["group", "version", "resource", "scope"],
    &WATCH_LIST_SECONDS,
);

/// What the front door counts.
pub static COLLECTORS: [&dyn Collect; 11] = [
    &InFlightMetrics,
    &LONG_RUNNING,
    &DURATIONS,
    &SLI_DURATIONS,
    &TERMINATIONS,
    &REQUESTS,
    &RESPONSE_SIZES,
    &WATCH_EVENTS,
    &WATCH_EVENT_SIZES,
    &WATCH_LISTS,
    &deprecation::REQUESTED,
];

/// A watch has sent all that there was when it began, after so long.
pub fn watch_listed(target: &Target, took: Duration) {
    let scope = match (target.name.is_empty(), target.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    WATCH_LISTS.with(&[&target.resource.group, &target.version, &target.resource.plural, scope]).observe_time(took);
}

/// Counts one thing that is under way; over when dropped.
#[derive(Debug)]
pub struct Underway(&'static Gauge);

impl Underway {
    fn begin(gauge: &'static Gauge) -> Self {
        gauge.add(1.0);
        Underway(gauge)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

/// What is counted of the events of one watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchCounts {
    events: &'static Counter,
    sizes: &'static Histogram,
}

impl WatchCounts {
    pub fn of(resource: &Resource, version: &str) -> Self {
        let labels = [&*resource.group, version, &*resource.plural];
        WatchCounts { events: WATCH_EVENTS.with(&labels), sizes: WATCH_EVENT_SIZES.with(&labels) }
    }

    #[allow(clippy::cast_precision_loss, reason = "events are small")]
    pub fn sent(self, bytes: usize) {
        self.events.increment();
        self.sizes.observe(bytes as f64);
    }
}

/// One request under observation.
#[derive(Debug)]
pub struct Monitor {
    began: Instant,
    routed: OnceCell<Routed>,
    /// A page of a version that is no resource.
    page: Cell<Option<Paged>>,
}

/// A request for such a page: its name, and the version of `config.k8s.io` that it is of; empty for text.
#[derive(Clone, Copy, Debug)]
struct Paged {
    name: &'static str,
    version: &'static str,
    system_client: &'static str,
}

const PAGES: [(&str, &str); 2] = [("/flagz", "flagz"), ("/statusz", "statusz")];
const PAGES_GROUP: &str = "config.k8s.io";

/// A request that reached a resource. The labels' values come from the resource table, never from clients.
#[derive(Debug)]
struct Routed {
    verb: &'static str,
    dry_run: &'static str,
    scope: &'static str,
    system_client: &'static str,
    resource: Arc<Resource>,
    version: Arc<str>,
    subresource: Arc<str>,
    _long: Option<Underway>,
}

/// The series that one kind of request counts in.
#[derive(Clone, Copy, Debug)]
struct Series {
    total: &'static Counter,
    duration: &'static Histogram,
    sli: Option<&'static Histogram>,
    size: Option<&'static Histogram>,
}

thread_local! {
    static KNOWN: RefCell<Memo<Series>> = RefCell::default();
}

impl Monitor {
    pub fn begin() -> Self {
        Monitor { began: Instant::now(), routed: OnceCell::new(), page: Cell::new(None) }
    }

    /// How long ago the request came.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The request is for this.
    pub fn routed(&self, request: &HttpRequest, query: &Query, route: &Route) {
        let target = &route.target;
        let scope = match (target.name.is_empty() && route.action != Action::Create, target.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let mut routed = Routed {
            verb: verb(request, route.action),
            dry_run: match query.text("dryRun") {
                None | Some("") => "",
                Some("All") => "All",
                Some(_) => "invalid",
            },
            scope,
            system_client: system_client(user_agent(request)),
            resource: target.resource.clone(),
            version: target.version.clone(),
            subresource: target.subresource.clone(),
            _long: None,
        };
        if matches!(route.action, Action::Watch | Action::Connect) {
            routed._long = Some(Underway::begin(LONG_RUNNING.with(&routed.labels())));
        }
        // A request is routed once.
        let _ = self.routed.set(routed);
    }

    /// The request is for the page at this path, if there is such a one, as an object of this version or as text.
    pub fn paged(&self, request: &HttpRequest, path: &str, version: Option<&'static str>) {
        let page = PAGES.iter().find(|(known, _)| *known == path);
        let system_client = system_client(user_agent(request));
        self.page.set(page.map(|(_, name)| Paged { name, version: version.unwrap_or_default(), system_client }));
    }

    /// Counts the request, now or when its stream ends.
    pub fn answer(self, response: HttpResponse) -> HttpResponse {
        let code = response.status().as_u16();
        let Some(routed) = self.routed.into_inner() else {
            if code == 429 {
                // Refused before anybody looked at what it asks for.
                TERMINATIONS.with(&["", "", "", "", "", "", COMPONENT, "429"]).increment();
            }
            if let Some(page) = self.page.get() {
                page.count(code, self.began.elapsed(), response.body().size());
            }
            return response;
        };
        if matches!(code, 429 | 504) {
            let [verb, group, version, resource, subresource, scope, component] = routed.labels();
            let code = if code == 429 { "429" } else { "504" };
            TERMINATIONS.with(&[verb, group, version, resource, subresource, scope, component, code]).increment();
        }
        let mut count = Count { routed, code, began: self.began, bytes: 0 };
        match response.body().size() {
            BodySize::Sized(bytes) => count.bytes = bytes,
            BodySize::None => {}
            BodySize::Stream => return response.map_body(|_, body| BoxBody::new(Counted { body, count })),
        }
        response
    }
}

impl Paged {
    #[allow(clippy::cast_precision_loss, reason = "pages are small")]
    fn count(self, code: u16, took: Duration, size: BodySize) {
        let group = if self.version.is_empty() { "" } else { PAGES_GROUP };
        let labels = ["GET", group, self.version, self.name, "", "", COMPONENT];
        let ([verb, group, version, name, ..], code) = (labels, code.to_string());
        REQUESTS.with(&[verb, "", group, version, name, "", "", COMPONENT, code.as_str(), self.system_client]).increment();
        DURATIONS.with(&[verb, "", group, version, name, "", "", COMPONENT]).observe_time(took);
        SLI_DURATIONS.with(&labels).observe_time(took);
        if let BodySize::Sized(bytes) = size {
            RESPONSE_SIZES.with(&labels).observe(bytes as f64);
        }
    }
}

impl Routed {
    fn labels(&self) -> [&str; 7] {
        [self.verb, &self.resource.group, &self.version, &self.resource.plural, &self.subresource, self.scope, COMPONENT]
    }

    fn series(&self, code: u16) -> Series {
        let mut digits = [b'0'; 3];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit += u8::try_from(code / [100, 10, 1][at] % 10).expect("a digit");
        }
        let code = std::str::from_utf8(&digits).expect("digits are text");
        let [verb, group, version, resource, subresource, scope, component] = self.labels();
        let key = [verb, self.dry_run, group, version, resource, subresource, scope, component, code, self.system_client];
        let find = || Series {
            total: REQUESTS.find(&key),
            duration: DURATIONS.find(&key[..8]),
            sli: self.dry_run.is_empty().then(|| SLI_DURATIONS.find(&self.labels())),
            size: matches!(verb, "GET" | "LIST").then(|| RESPONSE_SIZES.find(&self.labels())),
        };
        // While a thread ends, its memo may be gone.
        KNOWN.try_with(|known| known.borrow_mut().get(0, &key, find)).unwrap_or_else(|_| find())
    }
}

/// Counts a request when dropped.
struct Count {
    routed: Routed,
    code: u16,
    began: Instant,
    bytes: u64,
}

impl Drop for Count {
    fn drop(&mut self) {
        let (series, took) = (self.routed.series(self.code), self.began.elapsed());
        series.total.increment();
        series.duration.observe_time(took);
        if let Some(sli) = series.sli {
            sli.observe_time(took);
        }
        if let Some(size) = series.size {
            #[allow(clippy::cast_precision_loss, reason = "sizes stay below 2^52")]
            size.observe(self.bytes as f64);
        }
    }
}

/// A stream whose request is counted when it ends.
struct Counted {
    body: BoxBody,
    count: Count,
}

impl MessageBody for Counted {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = Pin::new(&mut self.body).poll_next(context);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.count.bytes += bytes.len() as u64;
        }
        next
    }
}

/// The verb as metrics name it.
fn verb(request: &HttpRequest, action: Action) -> &'static str {
    match action {
        Action::Get => "GET",
        Action::List => "LIST",
        Action::Watch => "WATCH",
        Action::Create => "POST",
        Action::Update => "PUT",
        Action::Patch => {
            let media_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
            if media_type.starts_with(b"application/apply-patch+") { "APPLY" } else { "PATCH" }
        }
        Action::Delete | Action::DeleteCollection => "DELETE",
        Action::Connect => "CONNECT",
    }
}

/// The components that upstream tells apart.
fn system_client(agent: &str) -> &'static str {
    let name = agent.split_once('/').map_or("", |(name, _)| name);
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "cluster-policy-controller"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("")
}

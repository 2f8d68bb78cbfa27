//! Spans of traces that others collect (OpenTelemetry): what is sampled, what a span says, and where spans wait until they are sent.
//!
//! A [`Tracer`] stands for a component that exports spans; where there is none, nothing here costs more than a look at a variable of the thread or
//! at [`Cause::sampled`]. Work on a sampled request goes on [`within`] a [`Scope`], in which parts of it are spans of their own ([`begin`]). Spans
//! wait in a queue of fixed length for whoever sends them: when that is full they are dropped and counted, so nobody waits for a collector.

mod sampling;
mod settings;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use self::sampling::{Continuations, Sampler};
pub use self::settings::{DEFAULT_ENDPOINT, Endpoint, TracingSettings};
use crate::{
    meta::{Cause, Clock},
    metrics::{Collect, Counter, Family},
};

/// Spans that wait to be sent, as many as in OpenTelemetry's own libraries.
pub const QUEUE: usize = 2048;

static SPANS: Family<Counter> = Family::new(
    "troupe_tracing_spans_total",
    "Spans by the component that made them and by what became of them: sent, failed (the collector did not take them), dropped (the queue was full).",
    &["component", "outcome"],
);

/// What is told of spans.
pub static COLLECTORS: [&dyn Collect; 1] = [&SPANS];

/// What became of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Sent,
    Failed,
    Dropped,
}

impl Fate {
    /// Counts spans of a component that met with it.
    pub fn count(self, component: &str, spans: usize) {
        let outcome = match self {
            Fate::Sent => "sent",
            Fate::Failed => "failed",
            Fate::Dropped => "dropped",
        };
        SPANS.with(&[component, outcome]).add(spans as u64);
    }
}

/// Which side of a call a span tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpanKind {
    #[default]
    Internal,
    Server,
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Number(number)
    }
}

/// An operation that has ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// Who did it: `service.name`.
    pub component: Cow<'static, str>,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    pub trace: u128,
    pub span: u64,
    /// 0 for the first of a trace.
    pub parent: u64,
    /// The trace and span that a client named which is not continued.
    pub link: Option<(u128, u64)>,
    pub begun: Timestamp,
    pub ended: Timestamp,
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did; may be empty.
    pub failure: Option<String>,
}

/// Where a new span belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub trace: u128,
    /// 0 for a new trace.
    pub parent: u64,
    pub link: Option<(u128, u64)>,
}

#[derive(Debug)]
struct Inner {
    component: &'static str,
    sampler: Sampler,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Span>,
    continuations: Mutex<Continuations>,
}

/// Makes the spans of a component. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Inner>);

impl Tracer {
    /// A tracer that begins so many traces of a million, and what takes its spans.
    pub fn new(component: &'static str, per_million: u32, clock: Arc<dyn Clock>) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        let inner = Inner { component, sampler: Sampler::per_million(per_million), clock, queue, continuations: Mutex::default() };
        (Tracer(Arc::new(inner)), spans)
    }

    /// The component whose spans it makes.
    pub fn component(&self) -> &'static str {
        self.0.component
    }

    /// Whether a trace that nobody has decided about is sampled; the same for a trace wherever it is asked.
    pub fn samples(&self, trace: u128) -> bool {
        self.0.sampler.takes(trace)
    }

    /// Where the span of a request belongs, `None` for a request that is not sampled.
    ///
    /// `said` is what its client says of its own trace, if anything, `own` the trace that begins otherwise. As upstream, the word of privileged
    /// clients is taken; a trace of others is not continued but linked to. Unlike upstream, everybody may continue what this server sampled a
    /// short while ago, a bounded number of times: so a trace goes on where controllers and nodes write because of it.
    pub fn place(&self, said: Option<&Cause>, own: u128, privileged: bool) -> Option<Place> {
        let continued = said.filter(|said| privileged || said.sampled && self.0.continuations.lock().take(said.trace));
        let place = match continued {
            Some(said) => said.sampled.then_some(Place { trace: said.trace, parent: said.span, link: None }),
            None => self.samples(own).then(|| Place { trace: own, parent: 0, link: said.map(|said| (said.trace, said.span)) }),
        };
        if let Some(place) = &place {
            self.0.continuations.lock().note(place.trace);
        }
        place
    }

    /// Begins a span.
    pub fn begin(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind, place: Place) -> Active {
        let Place { trace, parent, link } = place;
        let begun = self.0.clock.now();
        let component = Cow::Borrowed(self.0.component);
        let span = Span { component, name: name.into(), kind, trace, span: random_id(), parent, link, begun, ..Span::default() };
        Active { tracer: self.clone(), span }
    }

    /// The wall-clock time of a moment in the past.
    pub fn time_of(&self, moment: Instant, now: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(now.saturating_duration_since(moment)).unwrap_or(SignedDuration::ZERO);
        let time = self.0.clock.now();
        time.checked_sub(ago).unwrap_or(time)
    }

    /// Puts a span in the queue, if there is room.
    pub fn send(&self, span: Span) {
        if self.0.queue.try_send(span).is_err() {
            Fate::Dropped.count(self.0.component, 1);
        }
    }
}

/// The id of a span; never 0, which stands for none.
pub fn random_id() -> u64 {
    rand::random_range(1..=u64::MAX)
}

/// An operation under way. It ends when this is dropped.
#[derive(Debug)]
pub struct Active {
    tracer: Tracer,
    span: Span,
}

impl Active {
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.span.attributes.push((name, value.into()));
    }

    /// Says that it failed.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.span.failure = Some(why.into());
    }

    /// It began earlier than when this was made.
    pub fn began_before(&mut self, ago: Duration) {
        let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::ZERO);
        self.span.begun = self.span.begun.checked_sub(ago).unwrap_or(self.span.begun);
    }

    /// The cause of what is done because of it.
    pub fn cause(&self) -> Cause {
        Cause { trace: self.span.trace, span: self.span.span, sampled: true, object: None }
    }

    /// The scope of what is a part of it.
    pub fn scope(&self) -> Scope {
        let linked = self.span.link.map_or(0, |(_, span)| span);
        let caller = if self.span.parent == 0 { linked } else { self.span.parent };
        Scope { tracer: self.tracer.clone(), trace: self.span.trace, span: self.span.span, caller }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut span = std::mem::take(&mut self.span);
        span.ended = self.tracer.0.clock.now();
        self.tracer.send(span);
    }
}

/// The span within which something is done.
#[derive(Clone, Debug)]
pub struct Scope {
    tracer: Tracer,
    trace: u128,
    span: u64,
    caller: u64,
}

impl Scope {
    /// The scope of what is done because of a cause whose span somebody else records.
    pub fn of(tracer: &Tracer, cause: &Cause) -> Self {
        Scope { tracer: tracer.clone(), trace: cause.trace, span: cause.span, caller: 0 }
    }

    /// The cause of what is done within it.
    pub fn cause(&self) -> Cause {
        Cause { trace: self.trace, span: self.span, sampled: true, object: None }
    }

    /// The span of who asked for it, whether it is a part of that or not; 0 where none is known here.
    pub fn caller(&self) -> u64 {
        self.caller
    }
}

tokio::task_local! {
    static SCOPE: Scope;
}

/// Does `work` within a scope.
pub async fn within<F: Future>(scope: Scope, work: F) -> F::Output {
    SCOPE.scope(scope, work).await
}

/// The scope of what is being done, if that is sampled.
pub fn current() -> Option<Scope> {
    SCOPE.try_with(Scope::clone).ok()
}

/// Begins a part of what is being done, if that is sampled.
pub fn begin(name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Option<Active> {
    let begun = SCOPE.try_with(|scope| scope.tracer.begin(name, kind, Place { trace: scope.trace, parent: scope.span, link: None }));
    begun.ok()
}

/// The `traceparent` header of what is being done, if that is sampled.
pub fn traceparent() -> Option<String> {
    SCOPE.try_with(Scope::cause).ok()?.traceparent()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::SystemClock;

    fn tracer(per_million: u32) -> (Tracer, mpsc::Receiver<Span>) {
        Tracer::new("apiserver", per_million, Arc::new(SystemClock))
    }

    fn said(sampled: bool) -> Cause {
        Cause { sampled, ..Cause::root() }
    }

    #[test]
    fn the_word_of_privileged_clients_is_taken_and_other_traces_are_linked_to() {
        let (tracer, _spans) = tracer(1_000_000);
        let (yes, no) = (said(true), said(false));
        assert_eq!(tracer.place(Some(&yes), 7, true), Some(Place { trace: yes.trace, parent: yes.span, link: None }));
        assert_eq!(tracer.place(Some(&no), 7, true), None, "whoever began the trace decided");
        assert_eq!(tracer.place(None, 7, true), Some(Place { trace: 7, parent: 0, link: None }));
        let other = said(true);
        assert_eq!(tracer.place(Some(&other), 8, false), Some(Place { trace: 8, parent: 0, link: Some((other.trace, other.span)) }));
    }

    #[test]
    fn without_a_rate_only_privileged_clients_begin_traces_and_all_may_go_on_with_these() {
        let (tracer, _spans) = tracer(0);
        let cause = said(true);
        assert_eq!(tracer.place(None, 7, true), None);
        assert_eq!(tracer.place(Some(&cause), 7, false), None);
        assert!(tracer.place(Some(&cause), 7, true).is_some());
        assert_eq!(tracer.place(Some(&cause), 7, false), Some(Place { trace: cause.trace, parent: cause.span, link: None }));
    }

    #[tokio::test]
    async fn parts_of_sampled_work_are_spans_below_it_and_other_work_has_none() {
        let (tracer, mut spans) = tracer(0);
        assert!(begin("Create", SpanKind::Internal).is_none() && traceparent().is_none() && current().is_none());
        let mut request = tracer.begin("POST", SpanKind::Server, Place { trace: 5, parent: 6, link: None });
        request.set("http.response.status_code", 201);
        within(request.scope(), async {
            assert_eq!(current().map(|scope| scope.caller()), Some(6));
            let mut call = begin("HTTP POST", SpanKind::Client).expect("it is sampled");
            call.fail("refused");
            assert_eq!(traceparent(), request.cause().traceparent());
        })
        .await;
        drop(request);
        let (call, request) = (spans.try_recv().expect("the call"), spans.try_recv().expect("the request"));
        assert_eq!((call.trace, call.parent, call.failure.as_deref()), (5, request.span, Some("refused")));
        assert_eq!((request.parent, &request.attributes[..]), (6, &[("http.response.status_code", Value::Number(201))][..]));
        assert!(request.begun <= call.begun && call.ended <= request.ended);
    }

    #[test]
    fn spans_beyond_the_queue_are_dropped_and_nobody_waits() {
        let (tracer, mut spans) = tracer(0);
        for _ in 0..QUEUE + 3 {
            drop(tracer.begin("GET", SpanKind::Server, Place { trace: 1, parent: 0, link: None }));
        }
        let waiting = std::iter::from_fn(|| spans.try_recv().ok()).count();
        assert_eq!(waiting, QUEUE);
        drop(spans);
        drop(tracer.begin("GET", SpanKind::Server, Place { trace: 1, parent: 0, link: None }));
    }
}

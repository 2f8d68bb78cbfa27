//! What a pod's worker does because of one cause, as hops of the recorder: each call with its duration. Of what is sampled each step and each of its
//! calls are spans, too (KEP-2831), and the container runtime is told of them.

use std::time::Duration;

use troupe_api::{
    meta::Cause,
    spans::{self, Active, Place, SpanKind},
};
use troupe_cri::names::PodIdentity;

use crate::runtime::{
    host::{Unit, UnitContext},
    recorder::{Hop, Name, Outcome},
    system::System,
};

/// Records the calls that one step makes. Cheap to clone; [`CallTrace::default`] records nothing.
#[derive(Clone, Default)]
pub struct CallTrace(Option<Tracer>);

#[derive(Clone)]
struct Tracer {
    system: System,
    from: Name,
    cause: Cause,
    /// Whether the cause's span is one that is exported here.
    is_exported: bool,
}

impl CallTrace {
    /// The call_trace of what the unit of `cx` does because of `cause`.
    pub fn of<U: Unit>(cx: &UnitContext<'_, U>, cause: Cause) -> Self {
        let from = cx.system().recorder().intern(cx.path());
        CallTrace(Some(Tracer { system: cx.system().clone(), from, cause, is_exported: false }))
    }

    /// The same of a step that is a span, which ends with what is handed out beside it; without one where the step is not sampled.
    ///
    /// What the API server sampled is, and else as many traces as this kubelet is told to begin.
    pub fn of_step<U: Unit>(cx: &UnitContext<'_, U>, cause: Cause, name: &'static str, pod: &PodIdentity) -> (Self, Option<Active>) {
        let Some(tracer) = cx.system().recorder().kubelet_tracer() else { return (Self::of(cx, cause), None) };
        if !cause.sampled && !tracer.samples(cause.trace) {
            return (Self::of(cx, cause), None);
        }
        let parent = if cause.sampled { cause.span } else { 0 };
        let mut span = tracer.begin(name, SpanKind::Internal, Place { trace: cause.trace, parent, link: None });
        span.set("k8s.pod", format!("{}/{}", pod.namespace, pod.name));
        span.set("k8s.pod.uid", &*pod.uid);
        span.set("k8s.pod.name", &*pod.name);
        span.set("k8s.namespace.name", &*pod.namespace);
        let CallTrace(made) = Self::of(cx, Cause { object: cause.object, ..span.cause() });
        (CallTrace(made.map(|made| Tracer { is_exported: true, ..made })), Some(span))
    }

    /// Waits for `call` and records it as a hop to `to` called `what`. Such hops changed something outside of the API,
    /// so they are kept as long as commits are.
    pub async fn call<T, E: ToString>(&self, to: &str, what: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.made(to, what, || format!("{what} {to}"), SpanKind::Internal, call).await
    }

    /// The same of a call of the container runtime. `service` is the one of `runtime.v1` that has it.
    pub async fn cri<T, E: ToString>(&self, to: &str, service: &str, what: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.made(to, what, || format!("runtime.v1.{service}/{what}"), SpanKind::Client, call).await
    }

    async fn made<T, E: ToString>(
        &self,
        to: &str,
        what: &str,
        name: impl FnOnce() -> String,
        kind: SpanKind,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(tracer) = &self.0 else { return call.await };
        let begun = tracer.system.instant();
        let result = match tracer.begin(name, kind) {
            Some(span) => exported(span, call).await,
            None => call.await,
        };
        let recorder = tracer.system.recorder();
        recorder.keep(Hop {
            from: tracer.from,
            to: recorder.intern(to),
            message: recorder.intern(what),
            waited: Duration::ZERO,
            handled: tracer.system.instant().saturating_duration_since(begun),
            outcome: if result.is_ok() { Outcome::Done } else { Outcome::Failed },
            // It is exported by itself.
            cause: Cause { sampled: false, ..tracer.cause.clone() },
            span: 0,
            produced: None,
            at: begun,
        });
        result
    }
}

impl Tracer {
    /// The span of a call, where the step is sampled.
    fn begin(&self, name: impl FnOnce() -> String, kind: SpanKind) -> Option<Active> {
        if !self.is_exported {
            return None;
        }
        let place = Place { trace: self.cause.trace, parent: self.cause.span, link: None };
        self.system.recorder().kubelet_tracer().map(|tracer| tracer.begin(name(), kind, place))
    }
}

/// Waits for a call within its span, and says there what came of it. Whoever is called is told of the span.
async fn exported<T, E: ToString>(mut span: Active, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let result = spans::within(span.scope(), call).await;
    if let Err(why) = &result {
        span.fail(why.to_string());
    }
    result
}

#[cfg(test)]
mod tests;

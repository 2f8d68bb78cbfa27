//! What a pod's worker does because of one cause, as hops of the recorder: each call with its duration.

use std::time::Duration;

use troupe_api::meta::Cause;

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
}

impl CallTrace {
    /// The call_trace of what the unit of `cx` does because of `cause`.
    pub fn of<U: Unit>(cx: &UnitContext<'_, U>, cause: Cause) -> Self {
        let from = cx.system().recorder().intern(cx.path());
        CallTrace(Some(Tracer { system: cx.system().clone(), from, cause }))
    }

    /// Waits for `call` and records it as a hop to `to` called `what`. Such hops changed something outside of the API,
    /// so they are kept as long as commits are.
    pub async fn call<T, E>(&self, to: &str, what: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let Some(tracer) = &self.0 else { return call.await };
        let begun = tracer.system.instant();
        let result = call.await;
        let recorder = tracer.system.recorder();
        recorder.keep(Hop {
            from: tracer.from,
            to: recorder.intern(to),
            message: recorder.intern(what),
            waited: Duration::ZERO,
            handled: tracer.system.instant().saturating_duration_since(begun),
            outcome: if result.is_ok() { Outcome::Done } else { Outcome::Failed },
            cause: tracer.cause.clone(),
            span: 0,
            produced: None,
            at: begun,
        });
        result
    }
}

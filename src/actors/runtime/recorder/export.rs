//! Hops of sampled requests as spans, for a collector outside: what a message, step or commit was, and what led to it.
//!
//! Exported are hops that changed something and those that others name as what led to them; a message that led to nothing is left out.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::Instant,
};

use troupe_api::{
    meta::ObjectVersion,
    spans::{Span, SpanKind, Tracer, Value, random_id},
};

use super::{Hop, Outcome, Recorder};

/// The component whose spans have settings of their own.
const KUBELET: &str = "kubelet";

/// Who exports what a process records. The parts of a cluster that run in one process are configured by themselves.
#[derive(Default)]
pub(super) struct Exports {
    kubelet: OnceLock<Tracer>,
    others: OnceLock<Tracer>,
}

impl Recorder {
    /// Exports hops of sampled requests from now on: those of the kubelet by the kubelet's tracer, all others by the one of the API server. The
    /// first of each counts.
    pub fn export_by(&self, tracer: Tracer) {
        let place = if tracer.component() == KUBELET { &self.exports.kubelet } else { &self.exports.others };
        // Whoever starts a part twice in one process has the same settings.
        let _ = place.set(tracer);
    }

    /// What exports the kubelet's spans.
    pub fn kubelet_tracer(&self) -> Option<&Tracer> {
        self.exports.kubelet.get()
    }

    /// What exports the spans of the API server and of those that have no settings of their own.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.exports.others.get()
    }

    /// Exports a hop that belongs to a sampled request, which has just ended.
    #[cold]
    pub(super) fn export(&self, hop: &Hop) {
        let (from, to) = (self.text(hop.from), self.text(hop.to));
        let is_kubelets = [&from, &to].into_iter().any(|path| head(path) == KUBELET);
        let Some(tracer) = (if is_kubelets { self.kubelet_tracer() } else { self.tracer() }) else { return };
        let now = tokio::time::Instant::now().into_std();
        tracer.send(span_of(hop, (&from, &to, &self.text(hop.message)), tracer, now));
    }
}

/// The first part of a path.
fn head(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// The first two parts of a path: units of one kind have them in common.
fn place(path: &str) -> &str {
    path.match_indices('/').nth(1).map_or(path, |(end, _)| &path[..end])
}

/// What a part of the cluster is called.
fn component(path: &str) -> Cow<'static, str> {
    match head(path) {
        "apiserver" => "apiserver".into(),
        "controllers" => "kube-controller-manager".into(),
        "scheduler" => "kube-scheduler".into(),
        "proxy" => "kube-proxy".into(),
        other => other.to_owned().into(),
    }
}

fn span_of(hop: &Hop, (from, to, message): (&str, &str, &str), tracer: &Tracer, now: Instant) -> Span {
    let version = |version: &Arc<ObjectVersion>| format!("{} {}@{}", version.resource, version.key, version.revision);
    let mut attributes: Vec<(&'static str, Value)> = vec![("troupe.from", from.into()), ("troupe.to", to.into())];
    if !hop.waited.is_zero() {
        attributes.push(("troupe.waited_us", i64::try_from(hop.waited.as_micros()).unwrap_or(i64::MAX).into()));
    }
    attributes.extend(hop.cause.object.as_ref().map(|object| ("troupe.because", version(object).into())));
    attributes.extend(hop.produced.as_ref().map(|object| ("troupe.produced", version(object).into())));
    Span {
        component: component(to),
        name: format!("{message} {}", place(to)).into(),
        kind: SpanKind::Internal,
        trace: hop.cause.trace,
        span: if hop.span == 0 { random_id() } else { hop.span },
        parent: hop.cause.span,
        link: None,
        begun: tracer.time_of(hop.at, now),
        ended: tracer.time_of(now, now),
        attributes,
        failure: match hop.outcome {
            Outcome::Done => None,
            Outcome::Failed => Some(String::new()),
            Outcome::Panicked => Some("it panicked".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use troupe_api::meta::{Cause, ObjectKey, Revision, SystemClock};

    use super::*;
    use crate::runtime::recorder::Name;

    fn tracer(component: &'static str) -> (Tracer, mpsc::Receiver<Span>) {
        Tracer::new(component, 0, Arc::new(SystemClock))
    }

    fn names(spans: &mut mpsc::Receiver<Span>) -> Vec<String> {
        std::iter::from_fn(|| spans.try_recv().ok()).map(|span| span.name.into_owned()).collect()
    }

    #[test]
    fn the_way_of_a_sampled_write_is_exported_by_those_who_are_told_to() {
        let recorder = Recorder::new(64, 64);
        let (version, sampled) = (ObjectVersion { resource: "pods".into(), key: ObjectKey::new("n", "web"), revision: Revision(7) }, true);
        let cause = Cause { trace: 1, span: 2, object: Some(Arc::new(version.clone())), sampled };
        let commit = |cause: &Cause| {
            let to = recorder.intern("apiserver/pods");
            Hop::commit(Name::OUTSIDE, to, recorder.intern("Commit"), cause.clone(), Arc::new(version.clone()), Duration::from_secs(1))
        };
        recorder.keep(commit(&cause));
        let ((own, mut spans), (kubelet, mut of_kubelet)) = (tracer("apiserver"), tracer("kubelet"));
        recorder.export_by(own);
        recorder.keep(commit(&Cause { sampled: false, ..cause.clone() }));
        recorder.hop(recorder.step("controllers/replicaset", "Wake", &cause, 0));
        assert!(names(&mut spans).is_empty(), "it is not sampled, or led to nothing, or nobody exported");
        recorder.keep(commit(&cause));
        let span = spans.try_recv().expect("a commit");
        assert_eq!((span.trace, span.parent, &*span.name, &*span.component), (1, 2, "Commit apiserver/pods", "apiserver"));
        assert!(span.span != 0 && span.begun < span.ended);
        assert!(span.attributes.contains(&("troupe.produced", Value::Text("pods n/web@7".into()))), "{span:?}");

        recorder.hop(recorder.step("controllers/replicaset", "Reconcile", &cause, 3));
        recorder.keep(recorder.step("scheduler", "Schedule", &cause, 4));
        recorder.keep(recorder.step("kubelet/pods/n/web", "WriteStatus", &cause, 5));
        assert_eq!(names(&mut spans), ["Reconcile controllers/replicaset", "Schedule scheduler"]);
        recorder.export_by(kubelet);
        recorder.keep(recorder.step("kubelet/pods/n/web", "WriteStatus", &cause, 5));
        assert_eq!(names(&mut of_kubelet), ["WriteStatus kubelet/pods"]);
        assert!(names(&mut spans).is_empty());
    }
}

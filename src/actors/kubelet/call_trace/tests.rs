use std::sync::Arc;

use actix::Message;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use troupe_api::{
    meta::SystemClock,
    spans::{Endpoint, Span, Tracer},
};
use troupe_api_server::otlp::{
    Exporter,
    proto::{EXPORT, ExportRequest, ExportResponse},
};

use super::*;
use crate::{
    kubelet::plugin_testing::{serve, unary},
    runtime::{envelope::Reply, host::On, system::SystemOptions, unit::Policy},
};

/// Takes a step whenever it is told to, in which it makes a call that fails.
struct Worker {
    /// What the runtime is told of the call's span.
    told: mpsc::UnboundedSender<Option<String>>,
}

impl Unit for Worker {}

#[derive(Message)]
#[rtype(result = "()")]
struct Step;

impl On<Step> for Worker {
    fn on(&mut self, _: Step, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        let pod = PodIdentity { namespace: "n".into(), name: "web".into(), uid: "u".into() };
        let (trace, span) = CallTrace::of_step(cx, cx.cause().clone(), "syncPod", &pod);
        let told = self.told.clone();
        cx.spawn(async move {
            let call = async {
                told.send(spans::traceparent()).expect("somebody listens");
                Err::<(), String>("no such container".into())
            };
            trace.cri("containerd", "RuntimeService", "StartContainer", call).await.expect_err("it fails");
            drop(span);
        });
        Reply::Now(())
    }
}

/// Lets a worker take a step because of `cause`, where the kubelet begins so many traces of a million: what the runtime is told, and the spans.
async fn step(per_million: Option<u32>, cause: Cause) -> (Option<String>, Vec<Span>) {
    let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("no threads are started");
    let mut spans = per_million.map(|rate| {
        let (tracer, spans) = Tracer::new("kubelet", rate, Arc::new(SystemClock));
        system.recorder().export_by(tracer);
        spans
    });
    let (sender, mut told) = mpsc::unbounded_channel();
    let worker = system.spawn("kubelet/pods/n/web", Policy::default(), move |_| Worker { told: sender.clone() });
    worker.ask(Step, cause).await.expect("it lives");
    let told = told.recv().await.expect("the call was made");
    let mut made = Vec::new();
    if let Some(spans) = spans.as_mut().filter(|_| told.is_some()) {
        for _ in 0..2 {
            made.push(spans.recv().await.expect("a span"));
        }
    }
    (told, made)
}

#[actix::test]
async fn a_step_of_a_sampled_trace_and_its_calls_are_spans_that_the_runtime_is_told_of() {
    let cause = Cause { sampled: true, ..Cause::root() };
    let (told, spans) = step(Some(0), cause.clone()).await;
    let [call, step] = &spans[..] else { panic!("two spans: {spans:?}") };
    assert_eq!((&*step.name, step.trace, step.parent), ("syncPod", cause.trace, cause.span));
    assert!(step.attributes.contains(&("k8s.pod.uid", "u".into())) && step.attributes.contains(&("k8s.pod", "n/web".into())), "{step:?}");
    assert_eq!((&*call.name, call.kind, call.parent), ("runtime.v1.RuntimeService/StartContainer", SpanKind::Client, step.span));
    assert_eq!((&*call.component, call.failure.as_deref()), ("kubelet", Some("no such container")));
    let of_call = Cause { trace: cause.trace, span: call.span, sampled: true, object: None };
    assert_eq!(told, of_call.traceparent());
}

#[actix::test]
async fn a_kubelet_begins_traces_as_it_is_told_and_none_where_it_is_told_nothing() {
    let (told, spans) = step(Some(1_000_000), Cause::root()).await;
    assert!(told.is_some() && spans.iter().any(|span| span.name == "syncPod" && span.parent == 0), "{spans:?}");
    assert_eq!(step(Some(0), Cause::root()).await.0, None);
    assert_eq!(step(None, Cause { sampled: true, ..Cause::root() }).await.0, None);
}

#[tokio::test]
async fn spans_wait_for_a_collector_that_comes_later() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = place.path().join("collector.sock");
    let (tracer, spans) = Tracer::new("kubelet", 0, Arc::new(SystemClock));
    let exporter = Exporter::new(&Endpoint::Unix(socket.display().to_string()), "kubelet", Vec::new()).expect("an address");
    let sending = tokio::spawn(async move { exporter.run(&tokio::sync::Mutex::new(spans)).await });
    drop(tracer.begin("syncPod", SpanKind::Internal, Place { trace: 1, parent: 0, link: None }));
    // The first attempt, a second after the span came, meets nobody.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let heard = Arc::<Mutex<Vec<ExportRequest>>>::default();
    let kept = heard.clone();
    let answer = move |request: ExportRequest| {
        kept.lock().push(request);
        Ok(ExportResponse::default())
    };
    let _collector = serve(&socket, vec![(EXPORT, unary(answer))]);
    drop(tracer);
    tokio::time::timeout(Duration::from_secs(20), sending).await.expect("it ends when all is sent").expect("and does not panic");
    let heard = heard.lock();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].resource_spans[0].scope_spans[0].spans[0].name, "syncPod");
}

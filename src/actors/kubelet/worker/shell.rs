//! The actor around a pod's machine: carries effects out as tasks of its own and brings their answers back.

mod report;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use actix::Message;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use troupe_api::meta::Cause;
use troupe_cri::names::PodIdentity;

use super::{
    apply::{self, FAILED_CLEANUP, PreStops, Sizes, Step, StepFailure, Tokens},
    logs::logged_attempts,
    machine::{Effect, PodMachine},
    news::News,
    observe::observe,
    plan::{Action, FAILED_KILL, find_container},
    termination_messages::termination_messages,
};
use crate::{
    kubelet::{
        admission::Rejection,
        call_trace::CallTrace,
        context::NodeContext,
        events::{ContainerField, Note},
        metrics::{self, StartWatch},
        probes,
        resize::{Actuated, PodAllocation, Record, View},
        status::{PodFailure, Surroundings, TERMINATED, writer::is_overwritten},
        volumes::Made,
    },
    runtime::{
        envelope::Reply,
        host::{On, Unit, UnitContext},
    },
};

/// Something may have changed: the pod in the API, or (`runtime`) its sandboxes and containers.
#[derive(Clone, Copy, Debug, Default, Message)]
#[rtype(result = "()")]
pub struct Wake {
    pub runtime: bool,
}

/// The kubelet ends the pod by itself.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct FailPod(pub PodFailure);

/// Finds the newest version of a pod by identity; `None` when the API (or the manifest folder) has it no more.
pub type PodSource = Arc<dyn Fn(&PodIdentity) -> Option<Arc<Pod>> + Send + Sync>;

/// Called once nothing of a pod is left.
pub type WhenGone = Arc<dyn Fn(&PodIdentity) + Send + Sync>;

/// One pod's actor.
pub struct PodWorker {
    context: Arc<NodeContext>,
    source: PodSource,
    when_gone: WhenGone,
    machine: PodMachine,
    tokens: Arc<Tokens>,
    made: Arc<Made>,
    sizes: Arc<Sizes>,
    pre_stops: Arc<PreStops>,
    build: CancellationToken,
    /// Counts timers, so that only the newest one acts.
    timer: u64,
    armed: Option<Timestamp>,
    /// A status write is under way; the newest one waits behind it.
    writing: bool,
    unwritten: Option<Box<k8s_openapi::api::core::v1::PodStatus>>,
    /// What was written last, which the watched pod may not show yet.
    written: Option<Box<k8s_openapi::api::core::v1::PodStatus>>,
    /// It will be tried again by itself.
    retrying: bool,
    finishing: bool,
    last: String,
    start: StartWatch,
    /// Somebody wrote over it.
    overwritten: bool,
    /// Since when a status is not written.
    unwritten_since: Option<Instant>,
    news: News,
    /// Why it was started.
    because: Option<Cause>,
    admitted: bool,
    /// What the pod's containers have is known.
    recorded: bool,
}

impl PodWorker {
    /// A worker that knows nothing yet: all it needs comes from the source, the runtime and the disk.
    pub fn new(context: Arc<NodeContext>, id: PodIdentity, source: PodSource, when_gone: WhenGone) -> Self {
        let logged = logged_attempts(&id.log_directory(&context.log_root));
        let recorded = Record::read(context.paths(&id.uid).root());
        let is_recorded = recorded.is_some();
        let mut machine = PodMachine::new(id, context.node_ips.clone(), &context.runtime_name, logged);
        machine.back_off(context.backoff);
        PodWorker {
            context,
            source,
            when_gone,
            machine,
            tokens: Arc::default(),
            made: Arc::default(),
            sizes: Arc::new(Sizes::new(recorded.map(|record| record.actuated).unwrap_or_default())),
            pre_stops: Arc::default(),
            recorded: is_recorded,
            build: CancellationToken::new(),
            timer: 0,
            armed: None,
            writing: false,
            unwritten: None,
            written: None,
            overwritten: false,
            retrying: false,
            finishing: false,
            last: String::new(),
            start: StartWatch::default(),
            unwritten_since: None,
            news: News::default(),
            because: None,
            admitted: false,
        }
    }

    /// The same, started because of `cause`.
    #[must_use]
    pub fn because_of(self, cause: Option<Cause>) -> Self {
        PodWorker { because: cause, ..self }
    }

    fn look(&mut self) {
        match (self.source)(&self.machine.id) {
            Some(pod) => {
                match self.context.allocations.view(pod) {
                    // It is woken again when somebody has looked at what it asks for.
                    View::Unjudged(..) if self.machine.pod().is_some() => return,
                    View::Unjudged(pod, allocation) => self.see(pod, Some(allocation)),
                    View::Allocated(pod, allocation) => self.see(pod, allocation),
                }
                self.admit();
            }
            None => self.machine.remove(),
        }
    }

    fn see(&mut self, pod: Arc<Pod>, allocation: Option<Arc<PodAllocation>>) {
        if !std::mem::replace(&mut self.recorded, true) {
            // Whoever started it, if anybody did, had nothing but its spec.
            self.sizes = Arc::new(Sizes::new(Actuated::as_specified(&pod)));
        }
        if let Some(written) = self.written.as_ref().filter(|written| !self.writing && is_overwritten(&pod, written)) {
            self.overwritten = true;
            self.unwritten.get_or_insert_with(|| written.clone());
        }
        self.machine.spec(pod);
        self.machine.allocate(allocation);
        self.machine.sized(self.sizes.get());
    }

    /// Asks once whether the pod may run here.
    fn admit(&mut self) {
        if self.admitted || !self.machine.is_open() {
            return;
        }
        self.admitted = true;
        let Some(pod) = self.machine.pod() else { return };
        let NodeContext { container_manager, device_plugins, .. } = &*self.context;
        let allowed = self.context.lets_in(pod).and_then(|()| container_manager.admit(pod, &**device_plugins).map_err(Rejection::from));
        if let Err(Rejection { reason, message }) = allowed {
            tracing::warn!(pod = self.machine.id.name, %reason, message, "pod rejected");
            metrics::rejected(&reason);
            self.note(Note::warning(&reason, message.clone()));
            self.machine.fail_pod(PodFailure {
                reason: reason.into_owned(),
                message: format!("Pod was rejected: {message}"),
                rejected: true,
                evicted: None,
            });
        }
    }

    fn step(&self, call_trace: CallTrace) -> Step {
        Step {
            context: self.context.clone(),
            pod: self.machine.pod().cloned().unwrap_or_default(),
            id: self.machine.id.clone(),
            observed: self.machine.seen().cloned().unwrap_or_default(),
            tokens: self.tokens.clone(),
            made: self.made.clone(),
            sizes: self.sizes.clone(),
            pre_stops: self.pre_stops.clone(),
            cancel: self.build.clone(),
            call_trace,
        }
    }

    /// Tells of a failed step. What cannot be removed is tried again for as long as that takes, and told once.
    fn tell_failure(&self, action: &Action, failure: &StepFailure) {
        let StepFailure { reason, message } = failure;
        let pod = &self.machine.id.name;
        if *reason != FAILED_CLEANUP {
            return tracing::warn!(pod, ?action, reason, error = message, "step failed");
        }
        if self.machine.has_failed(reason) {
            return tracing::debug!(pod, ?action, error = message, "step failed again");
        }
        tracing::warn!(pod, ?action, error = message, "what the pod had on this node is not removed, which is tried again");
        self.note(Note::warning(FAILED_KILL, format!("error killing pod: {message}")));
    }

    fn note(&self, note: Note) {
        if let Some(pod) = self.machine.pod() {
            self.context.events.pod(pod, note);
        }
    }

    /// Tells of volumes that were not there although the pod runs.
    fn restored(&mut self) {
        if let Some(note) = self.machine.restored(&self.made.take()) {
            self.note(note);
        }
    }

    fn surroundings(&self) -> Surroundings {
        let spec = self.machine.pod().and_then(|pod| pod.spec.as_ref());
        let is_usual = spec.is_none_or(|spec| spec.runtime_class_name.is_none());
        let mut devices = self.context.device_plugins.health(&self.machine.id.uid);
        for (container, statuses) in self.machine.pod().map(|pod| self.context.dra.health(pod)).unwrap_or_default() {
            devices.entry(container).or_default().extend(statuses);
        }
        let recursive_read_only = is_usual && self.context.features.load().recursive_read_only("");
        Surroundings { recursive_read_only, stop_signals: self.context.stop_signals, devices }
    }

    fn advance(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.machine.surround(self.surroundings());
        for effect in self.machine.advance(self.context.clock.now()) {
            self.carry_out(effect, cx);
        }
        if std::mem::take(&mut self.overwritten) {
            self.write_later(cx);
        }
        self.arm(cx);
    }

    fn arm(&mut self, cx: &mut UnitContext<'_, Self>) {
        let wanted = self.machine.wake_at();
        let earlier = self.armed.is_some_and(|armed| wanted.is_none_or(|wanted| armed <= wanted));
        let Some(at) = wanted.filter(|_| !earlier) else { return };
        self.timer += 1;
        self.armed = Some(at);
        let serial = self.timer;
        let delay = at.duration_since(self.context.clock.now()).try_into().unwrap_or_default();
        cx.after(delay, move |worker, cx| {
            if worker.timer == serial {
                worker.armed = None;
                worker.advance(cx);
            }
        });
    }

    fn carry_out(&mut self, effect: Effect, cx: &mut UnitContext<'_, Self>) {
        match effect {
            Effect::Observe => self.observe(cx),
            Effect::Take(action) => self.take(action, cx),
            Effect::CancelBuild => self.build.cancel(),
            Effect::Probe(task) => self.probe(*task, cx),
            Effect::Refresh => {
                let step = self.step(CallTrace::default());
                cx.spawn_then(async move { apply::refresh(&step).await }, |worker, outcome, cx| {
                    if let Err(failure) = outcome {
                        tracing::warn!(pod = worker.machine.id.name, error = failure.message, "volumes not refreshed");
                    }
                    worker.restored();
                    worker.machine.refreshed(worker.context.clock.now());
                    worker.advance(cx);
                });
            }
            Effect::Publish(status) => {
                if let Some(pod) = self.machine.pod() {
                    self.start.look(pod, &status, self.context.clock.now());
                    let before = self.unwritten.as_deref().or(self.written.as_deref()).or(pod.status.as_ref());
                    metrics::ended(before, &status);
                }
                self.unwritten_since.get_or_insert_with(Instant::now);
                self.unwritten = Some(status);
                self.write_status(cx);
            }
            Effect::Note(note) => self.note(note),
            Effect::Finish => {
                self.finishing = true;
                self.finish(cx);
            }
        }
    }

    fn observe(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (context, id, before) = (self.context.clone(), self.machine.id.clone(), self.machine.seen().cloned());
        let work = async move {
            let observed = observe(&*context.runtime, &id.uid, before.as_ref()).await;
            let words = match &observed {
                Ok(observed) => termination_messages(&context, &id, observed, before.as_ref()).await,
                Err(_) => BTreeMap::new(),
            };
            (observed, words)
        };
        cx.spawn_then(work, |worker, (observed, words), cx| {
            if let Err(error) = &observed {
                tracing::warn!(pod = worker.machine.id.name, %error, "runtime not observed");
            }
            worker.machine.observed(observed.ok(), words, worker.context.clock.now());
            worker.advance(cx);
        });
    }

    /// What upstream calls the step that an action is a part of.
    fn step_name(&self, action: &Action) -> &'static str {
        if self.machine.pod().is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()) {
            return "syncPod";
        }
        match action {
            Action::RemoveContainer { .. } | Action::RemoveSandbox { .. } | Action::CleanUp { .. } => "syncTerminatedPod",
            _ => "syncTerminatingPod",
        }
    }

    fn take(&mut self, action: Action, cx: &mut UnitContext<'_, Self>) {
        tracing::debug!(pod = %format_args!("{}/{}", self.machine.id.namespace, self.machine.id.name), ?action, "apply");
        self.last = format!("{action:?}");
        if action.builds() {
            self.build = CancellationToken::new();
        }
        let cause = self.news.cause(cx.system());
        let (call_trace, mut span) = CallTrace::of_step(cx, cause, self.step_name(&action), &self.machine.id);
        if let Some(span) = &mut span {
            span.set("troupe.action", self.last.as_str());
        }
        let step = self.step(call_trace);
        let work = async move {
            let outcome = apply::apply(&step, &action).await;
            if let (Some(mut span), Err(failure)) = (span, &outcome) {
                span.fail(failure.to_string());
            }
            (action, outcome)
        };
        cx.spawn_then(work, |worker, (action, outcome), cx| {
            if let Err(failure) = &outcome {
                worker.tell_failure(&action, failure);
            }
            worker.restored();
            worker.machine.sized(worker.sizes.get());
            worker.machine.done(&action, outcome, worker.context.clock.now());
            worker.advance(cx);
        });
    }

    fn probe(&mut self, task: probes::ProbeTask, cx: &mut UnitContext<'_, Self>) {
        let step = self.step(CallTrace::default());
        let work = async move {
            let container = step.pod.spec.as_ref().and_then(|spec| find_container(spec, &task.container)).cloned().unwrap_or_default();
            let ip = step.context.pod_ips(&step.pod, &step.observed).first().cloned().unwrap_or_default();
            let outcome = probes::run::run(&*step.context.runtime, &task.container_id, &container, &ip, &task.probe).await;
            (task, outcome)
        };
        cx.spawn_then(work, |worker, (task, outcome), cx| {
            metrics::probes::probed(&worker.machine.id, &task.container, task.kind, &outcome);
            if let Some(note) = worker.machine.probed(&task.container_id, task.kind, &outcome, worker.context.clock.now()) {
                let spec = worker.machine.pod().and_then(|pod| pod.spec.as_ref());
                let field = spec.map(|spec| ContainerField::of(spec, &task.container));
                worker.note(note.about(field));
            }
            worker.advance(cx);
        });
    }
}

impl Unit for PodWorker {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        if let Some(cause) = self.because.take() {
            self.news.heard(&cause, cx.system());
        }
        self.look();
        self.advance(cx);
    }

    fn stopped(&mut self) {
        metrics::probes::forget(&self.machine.id);
    }

    fn observe(&self) -> Value {
        let PodIdentity { namespace, name, uid } = &self.machine.id;
        let containers = self.machine.seen().map_or(0, |observed| observed.running().count());
        json!({"pod": format!("{namespace}/{name}"), "uid": uid, "running": containers, "last": self.last, "waitsFor": self.machine.waits_for()})
    }
}

impl On<Wake> for PodWorker {
    fn on(&mut self, wake: Wake, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.news.heard(cx.cause(), cx.system());
        if wake.runtime {
            self.machine.look_again();
        }
        self.look();
        self.advance(cx);
        Reply::Now(())
    }
}

impl On<FailPod> for PodWorker {
    fn on(&mut self, fail_pod: FailPod, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        let FailPod(failure) = fail_pod;
        if self.machine.is_open() {
            if failure.reason != TERMINATED {
                self.note(Note::warning(&failure.reason, failure.message.clone()));
            }
        } else if !self.machine.is_hurried_by(&failure) {
            return Reply::Now(());
        }
        self.machine.fail_pod(failure);
        self.advance(cx);
        Reply::Now(())
    }
}

//! Drives one pod's machine without actors: effects are carried out as they come.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use troupe_cri::names::PodIdentity;

use crate::kubelet::{
    call_trace::CallTrace,
    context::NodeContext,
    probes::{self, ProbeOutcome, ProbeTask},
    resize::Actuated,
    volumes::Made,
    worker::{
        apply::{self, Step, StepFailure},
        machine::{Effect, PodMachine},
        observe::observe,
        observed::Observed,
        plan::{Action, find_container},
    },
};

enum Answer {
    Observed(Option<Observed>),
    Done(Action, Result<(), StepFailure>),
    Probed(Box<ProbeTask>, ProbeOutcome),
    Refreshed,
}

/// A pod under way.
pub struct Driver {
    pub machine: PodMachine,
    context: Arc<NodeContext>,
    answers: (mpsc::UnboundedSender<Answer>, mpsc::UnboundedReceiver<Answer>),
    tokens: Arc<apply::Tokens>,
    made: Arc<Made>,
    sizes: Arc<apply::Sizes>,
    pre_stops: Arc<apply::PreStops>,
    pub status: PodStatus,
    pub actions: Vec<Action>,
    pub finished: bool,
}

impl Driver {
    pub fn new(context: Arc<NodeContext>, pod: &Pod) -> Self {
        let mut machine = PodMachine::new(PodIdentity::of(pod), context.node_ips.clone(), &context.runtime_name, BTreeMap::new());
        machine.spec(Arc::new(pod.clone()));
        let sizes = Arc::new(apply::Sizes::new(Actuated::as_specified(pod)));
        machine.sized(sizes.get());
        let (status, actions, answers) = (PodStatus::default(), Vec::new(), mpsc::unbounded_channel());
        let (tokens, made, pre_stops) = (Arc::default(), Arc::default(), Arc::default());
        Driver { machine, context, answers, tokens, made, sizes, pre_stops, status, actions, finished: false }
    }

    /// Runs until `done` holds, at most `limit`.
    pub async fn until(&mut self, limit: Duration, what: &str, done: impl Fn(&Driver) -> bool) {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            self.advance();
            if done(self) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: not within {limit:?}; status {:#?} actions {:#?}", self.status, self.actions);
            match tokio::time::timeout(Duration::from_millis(100), self.answers.1.recv()).await {
                Ok(Some(answer)) => self.take(answer),
                _ => self.machine.look_again(),
            }
        }
    }

    fn take(&mut self, answer: Answer) {
        let now = Timestamp::now();
        drop(self.machine.restored(&self.made.take()));
        self.machine.sized(self.sizes.get());
        match answer {
            Answer::Observed(observed) => self.machine.observed(observed, BTreeMap::new(), now),
            Answer::Done(action, outcome) => self.machine.done(&action, outcome, now),
            Answer::Probed(task, outcome) => drop(self.machine.probed(&task.container_id, task.kind, &outcome, now)),
            Answer::Refreshed => self.machine.refreshed(now),
        }
    }

    fn advance(&mut self) {
        for effect in self.machine.advance(Timestamp::now()) {
            let (context, send) = (self.context.clone(), self.answers.0.clone());
            let step = Step {
                context: context.clone(),
                pod: self.machine.pod().cloned().unwrap_or_default(),
                id: self.machine.id.clone(),
                observed: self.machine.seen().cloned().unwrap_or_default(),
                tokens: self.tokens.clone(),
                made: self.made.clone(),
                sizes: self.sizes.clone(),
                pre_stops: self.pre_stops.clone(),
                cancel: CancellationToken::new(),
                call_trace: CallTrace::default(),
            };
            match effect {
                Effect::Observe => drop(tokio::spawn(async move {
                    let observed = observe(&*context.runtime, &step.id.uid, Some(&step.observed)).await.ok();
                    drop(send.send(Answer::Observed(observed)));
                })),
                Effect::Take(action) => {
                    self.actions.push(action.clone());
                    tokio::spawn(async move {
                        let outcome = apply::apply(&step, &action).await;
                        drop(send.send(Answer::Done(action, outcome)));
                    });
                }
                Effect::Probe(task) => drop(tokio::spawn(async move {
                    let spec = step.pod.spec.clone().unwrap_or_default();
                    let container = find_container(&spec, &task.container).cloned().unwrap_or_default();
                    let ip = context.pod_ips(&step.pod, &step.observed).first().cloned().unwrap_or_default();
                    let outcome = probes::run::run(&*context.runtime, &task.container_id, &container, &ip, &task.probe).await;
                    drop(send.send(Answer::Probed(task, outcome)));
                })),
                Effect::Refresh => drop(tokio::spawn(async move {
                    apply::refresh(&step).await.expect("refreshes");
                    drop(send.send(Answer::Refreshed));
                })),
                Effect::Publish(status) => self.status = *status,
                Effect::Finish => self.finished = true,
                Effect::CancelBuild | Effect::Note(_) => {}
            }
        }
    }
}

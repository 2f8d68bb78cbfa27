//! A pod's life on this node as a state machine: facts come in, effects go out. It never waits and has no clock,
//! so that the worker's shell, tests and simulations drive the same thing.

mod ending;
mod resizing;
mod waits;
mod waking;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use troupe_cri::names::PodIdentity;

use self::{
    resizing::Told,
    waking::{OBSERVE_AGAIN, refresh_period, retry_delay},
};
use super::{
    apply::{StepFailure, VOLUMES_MISSING},
    backoff::{BackoffPolicy, RestartBackoff},
    observed::{Observed, RunState},
    plan::{Action, Failure, Memory, Plan, Situation, StopReason, Stopping, Waiting, find_container, plan, spec_grace},
    resize::{SUBJECT, is_replaced},
};
use crate::kubelet::{
    events::Note,
    probes::{ProbeKind, ProbeOutcome, ProbeTask, Probes, was_ready},
    resize::PodAllocation,
    status::{PodFailure, StatusInputs, is_own, pod_status},
};

/// What the shell is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the runtime; answer with [`PodMachine::observed`].
    Observe,
    /// Take a step; answer with [`PodMachine::done`].
    Take(Action),
    /// Give up the building step that is under way.
    CancelBuild,
    /// Run a probe; answer with [`PodMachine::probed`].
    Probe(Box<ProbeTask>),
    /// Bring written volumes up to date; answer with [`PodMachine::refreshed`].
    Refresh,
    Publish(Box<PodStatus>),
    Note(Note),
    /// Nothing of the pod is left: remove it from the API, which ends this worker.
    Finish,
}

/// The state of one pod.
#[derive(Debug)]
pub struct PodMachine {
    pub id: PodIdentity,
    pod: Option<Arc<Pod>>,
    /// The API has forgotten the pod, or never knew it.
    removed: bool,
    observed: Option<Observed>,
    observing: bool,
    stale: bool,
    /// After a failed observation: not before then.
    observe_at: Option<Timestamp>,
    memory: Memory,
    probes: Probes,
    messages: BTreeMap<String, String>,
    stopping: Option<Stopping>,
    failure: Option<PodFailure>,
    published: Option<PodStatus>,
    frozen: bool,
    finishing: bool,
    cancelled: bool,
    refresh_at: Option<Timestamp>,
    refreshing: bool,
    wake_at: Option<Timestamp>,
    /// Of which wait of each container was told.
    waits: BTreeMap<String, String>,
    allocation: Option<Arc<PodAllocation>>,
    told: Told,
    node_ips: Vec<String>,
    runtime_name: String,
}

impl PodMachine {
    pub fn new(id: PodIdentity, node_ips: Vec<String>, runtime_name: &str, logged: BTreeMap<String, u32>) -> Self {
        PodMachine {
            id,
            pod: None,
            removed: false,
            observed: None,
            observing: false,
            stale: true,
            observe_at: None,
            memory: Memory { logged, ..Memory::default() },
            probes: Probes::default(),
            messages: BTreeMap::new(),
            stopping: None,
            failure: None,
            published: None,
            frozen: false,
            finishing: false,
            cancelled: false,
            refresh_at: None,
            refreshing: false,
            wake_at: None,
            waits: BTreeMap::new(),
            allocation: None,
            told: Told::default(),
            node_ips,
            runtime_name: runtime_name.to_owned(),
        }
    }

    /// How long containers that end again and again wait.
    pub fn back_off(&mut self, policy: BackoffPolicy) {
        self.memory.backoff_policy = policy;
    }

    /// The pod as last seen; `None` for one only the runtime knows.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        self.pod.as_ref()
    }

    /// What the runtime reported last.
    pub fn seen(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }

    /// The steps under way, and what failed and will be tried again, in words.
    pub fn waits_for(&self) -> Vec<String> {
        let names =
            |id: &str| self.observed.as_ref().and_then(|seen| seen.containers.iter().find(|seen| seen.id == id)).map(|seen| seen.name.clone());
        let stopping = self.memory.stopping.iter().filter_map(|(id, grace)| Some(format!("container {} to stop within {grace}s", names(id)?)));
        let removing = self.memory.removing.iter().map(|id| match (id.as_str(), names(id)) {
            ("", _) => "volumes and cgroups to be removed".to_owned(),
            (_, Some(name)) => format!("container {name} to be removed"),
            (id, None) => format!("sandbox {id} to stop and be removed"),
        });
        let building = self.memory.busy.then(|| "the next container, sandbox or volume to be made".to_owned());
        let failed = self.memory.failures.values().map(|failure| format!("another try after {}: {}", failure.reason, failure.message));
        stopping.chain(removing).chain(building).chain(failed).collect()
    }

    /// The pod changed in the API.
    pub fn spec(&mut self, pod: Arc<Pod>) {
        if self.pod.is_none() {
            self.resume_counts(&pod);
            self.resume_resize(&pod);
        }
        self.pod = Some(pod);
    }

    /// What the API tells of containers that ran before this kubelet: the runtime may have forgotten them, and their logs may be gone.
    fn resume_counts(&mut self, pod: &Pod) {
        let Some(status) = &pod.status else { return };
        let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        let all = lists.into_iter().flatten().flatten();
        for ran in all.filter(|status| status.container_id.as_deref().is_some_and(|id| !id.is_empty())) {
            let told = u32::try_from(ran.restart_count).unwrap_or(0);
            let known = self.memory.logged.entry(ran.name.clone()).or_insert(told);
            *known = told.max(*known);
        }
    }

    /// The pod is gone from the API.
    pub fn remove(&mut self) {
        self.removed = true;
    }

    /// Whether a step on the pod as a whole failed for this reason when it was tried last.
    pub fn has_failed(&self, reason: &str) -> bool {
        self.memory.failures.get("").is_some_and(|failure| failure.reason == reason)
    }

    /// Something happened at the runtime.
    pub fn look_again(&mut self) {
        self.stale = true;
    }

    /// The runtime's answer; `messages` are last words of ended containers by id.
    pub fn observed(&mut self, observed: Option<Observed>, messages: BTreeMap<String, String>, now: Timestamp) {
        self.observing = false;
        let Some(observed) = observed else {
            self.stale = true;
            self.observe_at = now.saturating_add(OBSERVE_AGAIN).ok();
            return;
        };
        self.observe_at = None;
        self.messages.extend(messages);
        let exists = |id: &String| observed.containers.iter().any(|seen| seen.id == *id);
        self.messages.retain(|id, _| exists(id));
        self.memory.lost.retain(|id, _| exists(id));
        self.memory.replacing.retain(exists);
        if let Some(spec) = self.pod.as_ref().and_then(|pod| pod.spec.as_ref()) {
            let status = self.pod.as_ref().and_then(|pod| pod.status.as_ref());
            let begun: Vec<_> = observed.running().filter(|seen| !self.memory.is_hooking(spec, seen)).collect();
            self.probes.follow(spec, &begun, |id| was_ready(status, id), now);
        }
        self.observed = Some(observed);
    }

    /// The end of a step.
    pub fn done(&mut self, action: &Action, outcome: Result<(), StepFailure>, now: Timestamp) {
        self.stale = true;
        let subject = match action {
            Action::StartContainer { name, .. } => name.as_str(),
            Action::Resize => SUBJECT,
            _ => "",
        };
        match action {
            Action::Prepare | Action::CreateSandbox { .. } | Action::StartContainer { .. } | Action::Resize => {
                self.memory.busy = false;
                self.memory.starting = None;
                self.cancelled = false;
            }
            Action::StopContainer { id, .. } => drop(self.memory.stopping.remove(id)),
            Action::StopSandbox { id } | Action::RemoveContainer { id, .. } | Action::RemoveSandbox { id } => drop(self.memory.removing.remove(id)),
            Action::CleanUp { .. } => drop(self.memory.removing.remove("")),
        }
        if *action == Action::Resize {
            // Part of it may have been done.
            self.observed.iter_mut().flat_map(|seen| &mut seen.containers).for_each(|seen| seen.outdated = true);
        }
        match outcome {
            Ok(()) => {
                self.memory.failures.remove(subject);
                match action {
                    Action::Prepare => {
                        self.memory.prepared = true;
                        self.refresh_at = now.saturating_add(refresh_period(&self.id.uid)).ok();
                    }
                    Action::CleanUp { logs } => {
                        self.memory.cleaned = true;
                        self.memory.forgotten |= logs;
                    }
                    _ => {}
                }
            }
            Err(failure) => self.failed(subject, failure, now),
        }
    }

    /// Volumes were set up that were not there. Containers that run already have them no more; what to say of that.
    pub fn restored(&mut self, volumes: &BTreeSet<String>) -> Option<Note> {
        let spec = self.pod.as_ref()?.spec.as_ref()?;
        let mut lost = BTreeSet::new();
        for seen in self.observed.as_ref()?.running() {
            let mounts = find_container(spec, &seen.name).and_then(|container| container.volume_mounts.as_ref());
            if let Some(mount) = mounts.into_iter().flatten().find(|mount| volumes.contains(&mount.name)) {
                lost.insert(mount.name.clone());
                self.memory.lost.insert(seen.id.clone(), mount.name.clone());
            }
        }
        let names = lost.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        (!lost.is_empty())
            .then(|| Note::warning("VolumesMissing", format!("Volumes {names} of running containers were missing and are set up again")))
    }

    fn failed(&mut self, subject: &str, failure: StepFailure, now: Timestamp) {
        if failure.reason == VOLUMES_MISSING {
            self.memory.prepared = false;
        }
        // A container that was made and did not start is in the runtime's hands: its exit and backoff tell the rest.
        if matches!(failure.reason.as_str(), "RunContainerError" | "PostStartHookError") {
            return;
        }
        let count = self.memory.failures.get(subject).filter(|old| old.reason == failure.reason).map_or(1, |old| old.count + 1);
        let delay = retry_delay(&failure.reason, count);
        let retry_at = now.saturating_add(delay).unwrap_or(now);
        let entry = Failure { reason: failure.reason, message: failure.message, since: now, retry_at, count };
        self.memory.failures.insert(subject.to_owned(), entry);
    }

    /// A probe's result.
    pub fn probed(&mut self, id: &str, kind: ProbeKind, outcome: &ProbeOutcome, now: Timestamp) -> Option<Note> {
        self.probes.record(id, kind, outcome, now);
        match outcome {
            ProbeOutcome::Success => None,
            ProbeOutcome::Warning(output) => Some(Note::warning("ProbeWarning", format!("{} probe warning: {output}", kind.name()))),
            ProbeOutcome::Failure(output) => Some(Note::warning("Unhealthy", format!("{} probe failed: {output}", kind.name()))),
            ProbeOutcome::Unknown(error) => {
                Some(Note::warning("Unhealthy", format!("{} probe errored and resulted in unknown state: {error}", kind.name())))
            }
        }
    }

    /// The end of a refresh of volumes.
    pub fn refreshed(&mut self, now: Timestamp) {
        self.refreshing = false;
        self.refresh_at = now.saturating_add(refresh_period(&self.id.uid)).ok();
    }

    /// Goes on from what is known now.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Effect> {
        self.follow_clock(now);
        let mut effects = Vec::new();
        let may_observe = self.observe_at.is_none_or(|at| at <= now);
        if self.stale && !self.observing && may_observe {
            self.stale = false;
            self.observing = true;
            effects.push(Effect::Observe);
        }
        // What was seen last may be older than the last step, also while a failed observation waits to be made again.
        let unsettled = self.observing || self.stale;
        self.wake_at = self.observe_at.filter(|at| *at > now);
        let Some(observed) = self.observed.clone() else { return effects };
        if self.finishing {
            return effects;
        }
        self.check_deadline(now);
        self.decide_stop(&observed);
        if self.stopping.is_some() {
            self.memory.stops_since.get_or_insert(now);
        }
        let verdicts = self.probes.verdicts();
        let empty = Pod::default();
        let pod = self.pod.clone();
        let pod = pod.as_deref().unwrap_or(&empty);
        let no_spec = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&no_spec);
        let situation = |machine: &Self| {
            let (memory, stopping) = (&machine.memory, machine.stopping);
            plan(&Situation { pod, spec, observed: &observed, verdicts: &verdicts, memory, stopping, now })
        };
        // An observation under way may know better: what a step just did must not be done again.
        let mut next = if unsettled { Plan { wake_at: self.memory_wake(now), ..situation(self) } } else { situation(self) };
        if next.finished && self.stopping.is_none() {
            self.begin_to_stop(Stopping { grace: spec_grace(spec), remove: false });
            next = situation(self);
        }
        let waiting = std::mem::take(&mut next.waiting);
        self.publish(pod, &observed, &waiting, &mut effects, now);
        self.note_waits(&waiting, &observed, &mut effects);
        if !unsettled {
            self.take(next.actions, &observed, &mut effects, now);
        }
        if next.gone && !unsettled && self.leaves_api() {
            self.finishing = true;
            effects.push(Effect::Finish);
        }
        self.arm(next.wake_at, spec, &mut effects, now);
        effects
    }

    fn publish(&mut self, pod: &Pod, observed: &Observed, waiting: &BTreeMap<String, Waiting>, effects: &mut Vec<Effect>, now: Timestamp) {
        if self.pod.is_none() || self.removed || self.frozen {
            return;
        }
        let empty = PodSpec::default();
        let resize = self.resize_status(pod, pod.spec.as_ref().unwrap_or(&empty), observed, effects);
        let verdicts = self.probes.verdicts();
        // Transition times continue from what was published last, which the API may not have shown us yet.
        let own = self.published.as_ref().map(|published| {
            let mut own = published.clone();
            let foreign = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let foreign = foreign.filter(|condition| !is_own(condition)).cloned();
            if let Some(conditions) = &mut own.conditions {
                conditions.retain(is_own);
                conditions.extend(foreign);
            }
            own
        });
        let status = pod_status(&StatusInputs {
            pod,
            old: own.as_ref().or(pod.status.as_ref()),
            observed,
            waiting,
            verdicts: &verdicts,
            messages: &self.messages,
            failure: self.failure.as_ref(),
            stopping: self.stopping.is_some(),
            node_ips: &self.node_ips,
            runtime_name: &self.runtime_name,
            resize: &resize,
            actuated: self.memory.actuated.as_ref(),
            replacing: &self.memory.replacing,
            now,
        });
        if self.ends_too_early(own.as_ref().or(pod.status.as_ref()), &status) {
            return;
        }
        if self.published.as_ref() != Some(&status) {
            self.published = Some(status.clone());
            effects.push(Effect::Publish(Box::new(status)));
        }
    }

    /// Whether a pod would be told to have ended for good while a container of it may run: one that is being started, or was since the
    /// runtime was asked. It is told when that is known.
    fn ends_too_early(&self, before: Option<&PodStatus>, status: &PodStatus) -> bool {
        let ended = |status: &PodStatus| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let unknown = self.memory.starting.is_some() || self.observing || self.stale;
        self.failure.as_ref().is_none_or(PodFailure::has_time) && unknown && ended(status) && !before.is_some_and(ended)
    }

    fn take(&mut self, actions: Vec<Action>, observed: &Observed, effects: &mut Vec<Effect>, now: Timestamp) {
        if self.stopping.is_some() && self.memory.busy && !self.cancelled {
            self.cancelled = true;
            effects.push(Effect::CancelBuild);
        }
        for action in actions {
            match &action {
                Action::Prepare | Action::CreateSandbox { .. } | Action::Resize => self.memory.busy = true,
                Action::StartContainer { name, attempt } => {
                    self.memory.busy = true;
                    self.memory.starting = Some((name.clone(), *attempt));
                    self.count_restart(name, observed, now);
                }
                Action::StopContainer { id, grace, reason, .. } => {
                    if *reason == StopReason::Resized {
                        self.memory.replacing.insert(id.clone());
                    }
                    self.memory.stopping.insert(id.clone(), *grace);
                }
                Action::StopSandbox { id } => drop(self.memory.removing.insert(id.clone())),
                Action::RemoveContainer { id, .. } | Action::RemoveSandbox { id } => {
                    self.remember_count(id, observed);
                    self.frozen |= self.stopping.is_some();
                    self.memory.removing.insert(id.clone());
                }
                Action::CleanUp { .. } => drop(self.memory.removing.insert(String::new())),
            }
            effects.push(Effect::Take(action));
        }
    }

    /// The runtime forgets a container; the next one of its name goes on from its restart count.
    fn remember_count(&mut self, id: &str, observed: &Observed) {
        if let Some(seen) = observed.containers.iter().find(|seen| seen.id == id) {
            let known = self.memory.logged.entry(seen.name.clone()).or_default();
            *known = seen.attempt.max(*known);
        }
    }

    fn count_restart(&mut self, name: &str, observed: &Observed, now: Timestamp) {
        if self.memory.failures.contains_key(name) {
            // Still the same restart: an image or a config was missing.
            return;
        }
        let ended = observed.newest(name).filter(|seen| seen.state == RunState::Exited);
        if let Some(seen) = ended.filter(|seen| !is_replaced(&self.memory, seen)) {
            let (known, policy) = (self.memory.backoffs.get(name).copied(), self.memory.backoff_policy);
            let known = known.or_else(|| RestartBackoff::resumed(policy, seen.attempt, seen.started(), seen.finished()));
            self.memory.backoffs.insert(name.to_owned(), RestartBackoff::after_restart(policy, known, seen.finished(), now));
        }
    }
}

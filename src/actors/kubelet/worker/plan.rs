//! What a pod needs next: pure, from its spec, what the runtime reports, probe verdicts and what was tried before.
//!
//! One step that builds the pod up is planned at a time (prepare, sandbox, one container), steps that take it down
//! all at once. Planning again when everything planned has happened gives nothing to do.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use troupe_cri::names::container_hash;

use super::{
    backoff::{BackoffPolicy, RestartBackoff, go_duration},
    ephemeral, init,
    observed::{ContainerView, Observed, RunState},
    resize,
    restarts::{restart_policy, restart_policy_of_pod, restarts},
    stop,
};
use crate::kubelet::resize::Actuated;

/// Why a running container has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The pod ends.
    PodStops,
    /// The pod ends, and of this sidecar the preStop hook has run and those that need it have ended.
    Turn,
    Liveness,
    Startup,
    /// The spec asks for something else now.
    Changed,
    /// It gets another size, for which it has to start again.
    Resized,
    /// Another one ended by a rule that has all of them start anew.
    AllRestart,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Directories and volumes.
    Prepare,
    CreateSandbox {
        attempt: u32,
    },
    /// Pulls the image where needed, creates, starts, runs postStart.
    StartContainer {
        name: String,
        attempt: u32,
    },
    /// preStop, then the stop signal; killed after `grace` seconds in all.
    StopContainer {
        id: String,
        name: String,
        grace: u64,
        reason: StopReason,
        message: String,
    },
    /// Runs the preStop hook of a sidecar, within `grace` seconds: the signal follows when it is its turn.
    RunPreStop {
        id: String,
        name: String,
        grace: u64,
    },
    /// Writes what the pod's cgroup and its running containers get of CPU and memory.
    Resize,
    StopSandbox {
        id: String,
    },
    /// With its log, unless that is kept.
    RemoveContainer {
        id: String,
        keep_log: bool,
    },
    RemoveSandbox {
        id: String,
    },
    /// Unmounts and removes what the pod has on this node; its logs too where the pod itself leaves.
    CleanUp {
        logs: bool,
    },
}

impl Action {
    /// Whether it is one of those that are taken one at a time.
    pub fn builds(&self) -> bool {
        matches!(self, Action::Prepare | Action::CreateSandbox { .. } | Action::StartContainer { .. } | Action::Resize)
    }
}

/// Why a container does not run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// What probes say of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The startup probe succeeded, or there is none.
    pub started: bool,
    pub ready: bool,
    pub unhealthy: Option<StopReason>,
    /// The failed probe's own grace period.
    pub grace: Option<i64>,
}

/// A failed attempt to start something, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
    pub since: Timestamp,
    pub retry_at: Timestamp,
    /// How often in a row.
    pub count: u32,
}

/// That the pod has to go, and how long its containers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    pub grace: u64,
    /// The API object is being deleted, or is gone: leave nothing behind. Otherwise the dead containers stay for their logs.
    pub remove: bool,
}

/// The reason why something of a pod did not stop.
pub const FAILED_KILL: &str = "FailedKillPod";
/// Seconds that a container has after its preStop hook, or what it waited for, used the grace up.
pub const LEAST_GRACE: u64 = 2;

/// What a worker remembers between plans.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub prepared: bool,
    pub cleaned: bool,
    /// Its logs are removed as well.
    pub forgotten: bool,
    /// By container name; `""` is the pod itself (volumes, sandbox).
    pub failures: BTreeMap<String, Failure>,
    pub backoffs: BTreeMap<String, RestartBackoff>,
    pub backoff_policy: BackoffPolicy,
    /// A step that builds up is under way.
    pub busy: bool,
    /// The container whose start is under way, until its postStart hook is done, and which of its starts this is.
    pub starting: Option<(String, u32)>,
    /// Containers being stopped, with the grace given.
    pub stopping: BTreeMap<String, u64>,
    /// Since when the pod's containers are being stopped.
    pub stop_began: Option<Timestamp>,
    /// Sidecars by id whose preStop hooks were started, and whether they are done.
    pub hooks: BTreeMap<String, bool>,
    /// Sandboxes and containers being removed or stopped.
    pub removing: std::collections::BTreeSet<String>,
    /// Running containers by id that have lost a volume: it was taken away and is there again, but not for them.
    pub lost: BTreeMap<String, String>,
    /// Restart counts that logs of earlier times prove, or the API tells, for containers the runtime has forgotten.
    pub logged: BTreeMap<String, u32>,
    /// What the pod's cgroup and its containers have; nothing is resized before that is known.
    pub actuated: Option<Actuated>,
    /// Containers by id that were stopped only to start again with another size.
    pub replacing: std::collections::BTreeSet<String>,
}

impl Memory {
    /// Whether a running container's postStart hook may still run: it is neither started nor ready, and nothing probes it.
    pub(super) fn is_hooking(&self, spec: &PodSpec, seen: &ContainerView) -> bool {
        let starts = self.starting.as_ref().is_some_and(|(name, attempt)| *name == seen.name && *attempt == seen.attempt);
        let hook = || find_container(spec, &seen.name)?.lifecycle.as_ref()?.post_start.as_ref();
        starts && hook().is_some()
    }

    /// Whether the container that comes after this one, which ended, is being started.
    fn is_starting(&self, ended: &ContainerView) -> bool {
        self.starting.as_ref().is_some_and(|(name, attempt)| *name == ended.name && *attempt > ended.attempt)
    }
}

/// All a plan sees.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub observed: &'a Observed,
    /// By container id.
    pub verdicts: &'a BTreeMap<String, Verdict>,
    pub memory: &'a Memory,
    pub stopping: Option<Stopping>,
    pub now: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// By container name.
    pub waiting: BTreeMap<String, Waiting>,
    /// Plan again at this time even if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Every container ended for good.
    pub finished: bool,
    /// Nothing of the pod is left to take down.
    pub gone: bool,
}

impl Plan {
    /// Plan again at `time` or earlier.
    pub fn wake(&mut self, time: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(time, |earlier| earlier.min(time)));
    }
}

/// Plans a pod's next steps.
pub fn plan(situation: &Situation<'_>) -> Plan {
    let mut plan = Plan::default();
    match situation.stopping {
        Some(stopping) => stop::plan(situation, stopping, &mut plan),
        None => plan_run(situation, &mut plan),
    }
    plan
}

fn plan_run(situation: &Situation<'_>, plan: &mut Plan) {
    let Situation { spec, observed, memory, .. } = *situation;
    let Some(sandbox) = observed.ready_sandbox().filter(|_| observed.sandboxes.iter().filter(|sandbox| sandbox.ready).count() == 1) else {
        plan_sandbox(situation, plan);
        return;
    };
    if stop::restart_all(situation, plan) {
        return;
    }
    stop::collect_garbage(situation, plan);
    if !memory.prepared {
        // The daemon restarted beside a running pod: find its volumes again.
        build(situation, plan, "", Action::Prepare);
    }
    ephemeral::plan(situation, plan);
    resize::plan(situation, plan);
    let initialized = init::plan(situation, &sandbox.id, plan);
    if !initialized {
        return;
    }
    let mut alive = 0;
    for container in &spec.containers {
        alive += usize::from(plan_container(situation, container, plan));
    }
    plan.finished = alive == 0;
}

/// Plans the sandbox where there is none that is ready.
fn plan_sandbox(situation: &Situation<'_>, plan: &mut Plan) {
    let Situation { spec, observed, .. } = *situation;
    let done = |container: &Container| {
        let ended = observed.newest(&container.name).filter(|seen| seen.state == RunState::Exited);
        ended.is_some_and(|seen| !restarts(spec, container, seen.exit_code))
    };
    let init_failed = || {
        let failed = |container: &Container| {
            let ended = observed.newest(&container.name).filter(|seen| seen.state == RunState::Exited && seen.exit_code != 0);
            ended.is_some_and(|seen| !restarts(spec, container, seen.exit_code))
        };
        spec.init_containers.iter().flatten().any(failed)
    };
    if !observed.containers.is_empty() && (spec.containers.iter().all(done) || init_failed()) {
        plan.finished = true;
        return;
    }
    if restart_policy_of_pod(spec) == "Never" && observed.containers.iter().any(|seen| seen.state != RunState::Created) {
        // What ran in a sandbox that is gone must not run twice. What was only made there never ran.
        plan.finished = true;
        return;
    }
    for old in observed.running() {
        stop::stop_container(situation, old, spec_grace(spec), StopReason::Changed, &format!("Stopping container {}", old.name), plan);
    }
    for old in observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
        stop::stop_sandbox(situation, &old.id, plan);
    }
    if !plan.actions.is_empty() || observed.running().next().is_some() || observed.sandboxes.iter().any(|sandbox| sandbox.ready) {
        return;
    }
    if !situation.memory.prepared {
        build(situation, plan, "", Action::Prepare);
        return;
    }
    let attempt = observed.sandbox().map_or(0, |last| last.attempt.saturating_add(1));
    build(situation, plan, "", Action::CreateSandbox { attempt });
}

/// Plans one of the main containers; says whether it runs or will.
fn plan_container(situation: &Situation<'_>, container: &Container, plan: &mut Plan) -> bool {
    let Situation { spec, observed, .. } = *situation;
    let Some(seen) = observed.newest(&container.name) else {
        let attempt = next_attempt(situation, container, None);
        start(situation, plan, container, attempt);
        return true;
    };
    match seen.state {
        RunState::Running => {
            let restarted = plan_running(situation, container, seen, plan);
            restarted.unwrap_or(true)
        }
        RunState::Exited if !restarts(spec, container, seen.exit_code) && !resize::is_replaced(situation.memory, seen) => false,
        RunState::Exited => {
            restart(situation, container, seen, plan);
            true
        }
        RunState::Created | RunState::Unknown => {
            start(situation, plan, container, next_attempt(situation, container, Some(seen)));
            true
        }
    }
}

/// Plans a running container: it goes when its spec changed or a probe says so. Gives whether it comes back then.
pub(super) fn plan_running(situation: &Situation<'_>, container: &Container, seen: &ContainerView, plan: &mut Plan) -> Option<bool> {
    let verdict = situation.verdicts.get(&seen.id).copied().unwrap_or_default();
    let changed = !seen.hash.is_empty() && seen.hash != container_hash(container);
    // One that would not come back is better off without its volume than gone.
    let lost = situation.memory.lost.get(&seen.id).filter(|_| restart_policy(situation.spec, container) == "Always");
    let (what, reason) = match (verdict.unhealthy, lost) {
        _ if changed => ("definition changed".to_owned(), StopReason::Changed),
        (Some(StopReason::Startup), _) => ("failed startup probe".to_owned(), StopReason::Startup),
        (Some(_), _) => ("failed liveness probe".to_owned(), StopReason::Liveness),
        (None, Some(volume)) => (format!("lost volume \"{volume}\""), StopReason::Changed),
        (None, None) if resize::restarts(situation, container, seen) => {
            let message = format!("Container {} resize requires restart", container.name);
            stop::stop_container(situation, seen, spec_grace(situation.spec), StopReason::Resized, &message, plan);
            return Some(true);
        }
        (None, None) => return None,
    };
    let back = changed || restart_policy(situation.spec, container) != "Never";
    let ending = if back { ", will be restarted" } else { "" };
    let message = format!("Container {} {what}{ending}", container.name);
    let grace = verdict.grace.filter(|_| !changed).map_or_else(|| spec_grace(situation.spec), |grace| grace.max(0).unsigned_abs());
    stop::stop_container(situation, seen, grace, reason, &message, plan);
    Some(back)
}

/// Plans the next start of an ended container, after its backoff.
pub(super) fn restart(situation: &Situation<'_>, container: &Container, seen: &ContainerView, plan: &mut Plan) {
    if resize::is_replaced(situation.memory, seen) {
        plan.waiting.insert(container.name.clone(), Waiting { reason: "ContainerCreating".into(), message: String::new() });
        return start(situation, plan, container, next_attempt(situation, container, Some(seen)));
    }
    let known = situation.memory.backoffs.get(&container.name).copied();
    let backoff = known.or_else(|| RestartBackoff::resumed(situation.memory.backoff_policy, seen.attempt, seen.started(), seen.finished()));
    let until = backoff.map_or(seen.finished(), |backoff| backoff.until(seen.finished(), situation.now));
    // What is started after a wait reads as waiting until it runs. Of the first restart there is only the end to tell.
    let begins = situation.memory.is_starting(seen) && backoff.is_some_and(|backoff| backoff.is_first(situation.memory.backoff_policy));
    if let Some(backoff) = backoff.filter(|_| until > seen.finished() && !begins) {
        let id = troupe_cri::names::PodIdentity::of(situation.pod);
        let message = format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            go_duration(backoff.delay),
            container.name,
            id.name,
            id.namespace,
            id.uid
        );
        plan.waiting.insert(container.name.clone(), Waiting { reason: "CrashLoopBackOff".into(), message });
    }
    if until > situation.now {
        plan.wake(until);
        return;
    }
    start(situation, plan, container, next_attempt(situation, container, Some(seen)));
}

/// The restart count of the next start.
pub(super) fn next_attempt(situation: &Situation<'_>, container: &Container, seen: Option<&ContainerView>) -> u32 {
    match seen.or_else(|| situation.observed.newest(&container.name)) {
        Some(seen) => seen.attempt.saturating_add(1),
        None => situation.memory.logged.get(&container.name).map_or(0, |last| last.saturating_add(1)),
    }
}

/// Plans the start of a container, unless it failed a moment ago.
pub(super) fn start(situation: &Situation<'_>, plan: &mut Plan, container: &Container, attempt: u32) {
    let action = Action::StartContainer { name: container.name.clone(), attempt };
    build(situation, plan, &container.name, action);
}

/// How long `ErrImagePull` shows before it reads `ImagePullBackOff`.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(2);

/// Plans a building step: one at a time, and not before a failed one may be tried again.
pub(super) fn build(situation: &Situation<'_>, plan: &mut Plan, subject: &str, action: Action) {
    if let Some(failure) = situation.memory.failures.get(subject) {
        if !subject.is_empty() {
            let shown = failure.since.saturating_add(PULL_ERROR_SHOWN).unwrap_or(failure.since);
            if failure.reason == "ErrImagePull" && situation.now < shown {
                plan.wake(shown);
            }
            plan.waiting.insert(subject.to_owned(), waiting_of(failure, situation, subject, shown));
        }
        if situation.now < failure.retry_at {
            plan.wake(failure.retry_at);
            return;
        }
    }
    if situation.memory.busy {
        return;
    }
    match plan.actions.iter().position(Action::builds) {
        None => plan.actions.push(action),
        // Pulls that fail take their time: who has not been tried for longest is next, so that nobody waits for ever behind them.
        Some(at) if last_failure(situation, subject) < planned_failure(situation, &plan.actions[at]) => plan.actions[at] = action,
        Some(_) => {}
    }
}

/// When the last try for a subject failed; nothing if none did.
fn last_failure(situation: &Situation<'_>, subject: &str) -> Option<Timestamp> {
    situation.memory.failures.get(subject).map(|failure| failure.since)
}

/// The same for a planned step, as far as others may go before it: only containers do not need each other.
fn planned_failure(situation: &Situation<'_>, planned: &Action) -> Option<Timestamp> {
    match planned {
        Action::StartContainer { name, .. } => last_failure(situation, name),
        _ => None,
    }
}

fn waiting_of(failure: &Failure, situation: &Situation<'_>, name: &str, shown: Timestamp) -> Waiting {
    if failure.reason != "ErrImagePull" || situation.now < shown {
        return Waiting { reason: failure.reason.clone(), message: failure.message.clone() };
    }
    let image = ephemeral::find_any(situation.spec, name).and_then(|container| container.image.clone()).unwrap_or_default();
    Waiting { reason: "ImagePullBackOff".into(), message: format!("Back-off pulling image \"{image}\": ErrImagePull: {}", failure.message) }
}

/// A container of a pod by name, init containers included.
pub fn find_container<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|container| container.name == name)
}

/// An init container that keeps running beside the main ones.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The seconds that a pod's containers may take to stop.
pub fn spec_grace(spec: &PodSpec) -> u64 {
    spec.termination_grace_period_seconds.unwrap_or(30).max(0).unsigned_abs()
}

//! Container statuses: waiting, running or terminated, as upstream words them.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodSpec, PodStatus,
};

use super::{StatusInputs, sizes, surroundings, whole_seconds};
use crate::kubelet::worker::{
    ephemeral::as_container,
    observed::{ContainerView, RunState, nanos},
    plan::{Waiting, is_sidecar},
    restarts::{RESTARTING_ALL, restarts, restarts_all},
};

/// What the messages of all ended containers of a pod may have together, in bytes (upstream's `MaxPodTerminationMessageLogLength`).
const MESSAGES: usize = 12 << 10;

/// Statuses of init containers in spec order.
pub(super) fn init_statuses(inputs: &StatusInputs<'_>, spec: &PodSpec, old: &PodStatus) -> Vec<ContainerStatus> {
    let before = old.init_container_statuses.as_deref().unwrap_or_default();
    let all = spec.init_containers.iter().flatten();
    all.map(|container| status_of(inputs, spec, container, before, "PodInitializing", true)).collect()
}

/// Statuses of main containers in spec order.
pub(super) fn main_statuses(inputs: &StatusInputs<'_>, spec: &PodSpec, old: &PodStatus, init: &[ContainerStatus]) -> Vec<ContainerStatus> {
    let before = old.container_statuses.as_deref().unwrap_or_default();
    let reason = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let all = spec.containers.iter();
    all.map(|container| {
        let mut status = status_of(inputs, spec, container, before, reason, false);
        let told = || before.iter().find(|status| status.name == container.name)?.allocated_resources_status.clone();
        status.allocated_resources_status = inputs.surroundings.devices.get(&container.name).cloned().or_else(told);
        status
    })
    .collect()
}

/// Statuses of ephemeral containers in spec order. Nothing waits for them: they are neither ready nor counted as started.
pub(super) fn ephemeral_statuses(inputs: &StatusInputs<'_>, spec: &PodSpec, old: &PodStatus, init: &[ContainerStatus]) -> Vec<ContainerStatus> {
    let before = old.ephemeral_container_statuses.as_deref().unwrap_or_default();
    let reason = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let all = spec.ephemeral_containers.iter().flatten();
    all.map(|container| {
        let mut status = status_of(inputs, spec, &as_container(container), before, reason, false);
        // One that is lost does not come again.
        let lost = |state: &Option<ContainerState>| state.as_ref().is_some_and(|state| state.terminated.is_some());
        if inputs.observed.newest(&container.name).is_none() && lost(&status.last_state) {
            status.state = status.last_state.replace(ContainerState::default());
        }
        ContainerStatus { started: None, ready: false, restart_count: 0, ..status }
    })
    .collect()
}

fn status_of(
    inputs: &StatusInputs<'_>,
    spec: &PodSpec,
    container: &Container,
    before: &[ContainerStatus],
    default_reason: &str,
    init: bool,
) -> ContainerStatus {
    let old = before.iter().find(|status| status.name == container.name);
    let seen = inputs.observed.newest(&container.name);
    let waiting = inputs.waiting.get(&container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        restart_count: old.map_or(0, |old| old.restart_count),
        started: Some(false),
        last_state: Some(ContainerState::default()),
        volume_mounts: inputs.surroundings.mounts(container),
        ..ContainerStatus::default()
    };
    let Some(seen) = seen else {
        match old.filter(|_| super::is_restarting_all(inputs, spec)) {
            Some(old) => removed_to_restart(&mut status, container, old),
            None => never_seen(inputs, &mut status, old, waiting, default_reason),
        }
        return status;
    };
    let runtime = |id: &str| format!("{}://{id}", inputs.runtime_name);
    status.restart_count = i32::try_from(seen.attempt).unwrap_or(i32::MAX);
    status.container_id = Some(runtime(&seen.id));
    status.image_id = seen.image_ref.clone();
    status.user = seen.user.as_ref().map(surroundings::user);
    status.stop_signal = seen.stop_signal.filter(|_| inputs.surroundings.stop_signals).map(str::to_owned);
    status.resources = Some(sizes::of_container(inputs, spec, container, seen));
    status.allocated_resources = container.resources.as_ref().and_then(|resources| resources.requests.clone());
    let last = inputs.observed.previous(&container.name).filter(|previous| previous.state == RunState::Exited);
    let last = last.map(|previous| ContainerState { terminated: Some(terminated(inputs, previous)), ..ContainerState::default() });
    status.last_state = last.or_else(|| old?.last_state.clone()).or(status.last_state);
    match seen.state {
        RunState::Running => {
            let verdict = inputs.verdicts.get(&seen.id).copied().unwrap_or_default();
            status.started = Some(verdict.started);
            status.ready = verdict.started && verdict.ready && (!init || is_sidecar(container));
            status.state = Some(running(seen));
        }
        RunState::Exited => {
            let ended = ContainerState { terminated: Some(terminated(inputs, seen)), ..ContainerState::default() };
            match waiting.filter(|_| !inputs.stopping && (init || restarts(spec, container, seen.exit_code) || inputs.replacing.contains(&seen.id))) {
                Some(waiting) => {
                    status.last_state = Some(ended);
                    status.state = Some(waiting_state(&waiting.reason, &waiting.message));
                }
                None => {
                    status.ready = init && seen.exit_code == 0 && !is_sidecar(container);
                    status.state = Some(ended);
                }
            }
        }
        RunState::Created | RunState::Unknown => {
            let (reason, message) = waiting.map_or((default_reason, ""), |waiting| (&waiting.reason, &waiting.message));
            status.state = Some(waiting_state(reason, message));
        }
    }
    status
}

/// A container that was removed because all of the pod start anew. How the one ended that asked for it stays to be seen.
fn removed_to_restart(status: &mut ContainerStatus, container: &Container, old: &ContainerStatus) {
    let (reason, message) = RESTARTING_ALL;
    let state = old.state.as_ref();
    if state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) {
        let ended = state.and_then(|state| state.terminated.clone()).filter(|ended| restarts_all(container, ended.exit_code));
        let removed = || ContainerStateTerminated {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            exit_code: 137,
            ..ContainerStateTerminated::default()
        };
        status.last_state = Some(ContainerState { terminated: Some(ended.unwrap_or_else(removed)), ..ContainerState::default() });
        status.restart_count += 1;
    } else {
        status.last_state = old.last_state.clone();
    }
    status.state = Some(waiting_state(reason, message));
}

/// A container that the runtime does not have: it waits, or it is lost.
fn never_seen(
    inputs: &StatusInputs<'_>,
    status: &mut ContainerStatus,
    old: Option<&ContainerStatus>,
    waiting: Option<&Waiting>,
    default_reason: &str,
) {
    let old_state = old.and_then(|old| old.state.as_ref());
    if let Some(terminated) = old_state.and_then(|state| state.terminated.as_ref()) {
        // It ended long ago and was collected; the API remembers.
        let old = old.expect("its state was just read");
        *status = old.clone();
        status.state = Some(ContainerState { terminated: Some(terminated.clone()), ..ContainerState::default() });
        return;
    }
    if let Some(old) = old.filter(|_| old_state.is_some_and(|state| state.running.is_some())) {
        let lost = not_located(old.container_id.clone());
        if inputs.stopping {
            status.state = Some(lost);
            return;
        }
        status.last_state = Some(lost);
        status.restart_count += 1;
    } else if let Some(last) = old.and_then(|old| old.last_state.clone()) {
        status.last_state = Some(last);
    }
    let (reason, message) = waiting.map_or((default_reason, ""), |waiting| (&waiting.reason, &waiting.message));
    status.state = Some(waiting_state(reason, message));
}

/// Ends what a pod that is over, and of which nothing runs, still shows as waiting, as upstream's `TerminatePod` does: main containers once the
/// pod was initialized, and init containers up to the last that began, the first in any case. How they ended before stays to be seen.
pub(super) fn end_all(spec: &PodSpec, init: &mut [ContainerStatus], main: &mut [ContainerStatus]) {
    let initialized = was_initialized(spec, init, main);
    let begun = init.iter().rposition(has_begun).map_or(1, |last| last + 1);
    let main = main.iter_mut().filter(|_| initialized);
    for status in init.iter_mut().take(begun).chain(main) {
        if status.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
            status.state = Some(not_located(status.container_id.clone()));
        }
    }
}

/// Whether a pod's main containers were to run: its init containers are done, or one of the main ones began.
fn was_initialized(spec: &PodSpec, init: &[ContainerStatus], main: &[ContainerStatus]) -> bool {
    let done = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|ended| ended.exit_code == 0);
    let last = spec.init_containers.as_deref().unwrap_or_default().last();
    last.zip(init.last()).is_none_or(|(container, status)| {
        main.iter().any(has_begun) || (!is_sidecar(container) && [&status.state, &status.last_state].into_iter().any(done))
    })
}

/// Whether a container shows that it ever ran.
fn has_begun(status: &ContainerStatus) -> bool {
    let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    !waits || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
}

/// The end of a container that nobody saw; taken for a failure.
fn not_located(container_id: Option<String>) -> ContainerState {
    let lost = ContainerStateTerminated {
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("The container could not be located when the pod was terminated".into()),
        exit_code: 137,
        container_id,
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(lost), ..ContainerState::default() }
}

fn waiting_state(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    ContainerState { waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }), ..ContainerState::default() }
}

/// How long the message of one container may be, in bytes: all of a pod share what one pod may have.
fn share_of_messages(pod: &Pod) -> usize {
    let Some(spec) = &pod.spec else { return MESSAGES };
    let ephemeral = spec.ephemeral_containers.iter().flatten().count();
    MESSAGES / (spec.containers.len() + spec.init_containers.iter().flatten().count() + ephemeral).max(1)
}

fn running(seen: &ContainerView) -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(whole_seconds(seen.started())) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn terminated(inputs: &StatusInputs<'_>, seen: &ContainerView) -> ContainerStateTerminated {
    let time = |at: i64| Some(whole_seconds(nanos(at)));
    let reason = match (seen.reason.as_str(), seen.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let container_id = format!("{}://{}", inputs.runtime_name, seen.id);
    let left = inputs.messages.get(&seen.id).map(String::as_str);
    let now = [seen.message.as_str(), left.unwrap_or_default()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    let before = if left.is_none() { told_before(inputs, &container_id) } else { None };
    let mut message = before.unwrap_or(now);
    message.truncate(message.floor_char_boundary(share_of_messages(inputs.pod)));
    ContainerStateTerminated {
        exit_code: seen.exit_code,
        reason: Some(reason.to_owned()),
        message: (!message.is_empty()).then_some(message),
        started_at: time(seen.started_at),
        finished_at: time(seen.finished_at),
        container_id: Some(container_id),
        signal: None,
    }
}

/// What the API tells of a container's end. A kubelet that started later has not read it itself, and perhaps nobody can any more.
fn told_before(inputs: &StatusInputs<'_>, container_id: &str) -> Option<String> {
    let old = inputs.old?;
    let statuses = [&old.container_statuses, &old.init_container_statuses, &old.ephemeral_container_statuses];
    let mut ends = statuses
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|status| [&status.state, &status.last_state])
        .filter_map(|state| state.as_ref()?.terminated.as_ref());
    ends.find(|end| end.container_id.as_deref() == Some(container_id))?.message.clone()
}

//! The phase of a pod from its containers' statuses.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodSpec};

use crate::kubelet::worker::{
    plan::{find_container, is_sidecar},
    restarts::{RESTARTING_ALL, restarts},
};

/// What main containers and sidecars do, counted; sidecars that ended count for nothing.
#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    /// Of those, which start again.
    restartable: usize,
    succeeded: usize,
}

/// The phase. A pod that reached `Succeeded` or `Failed` never leaves it, and as upstream none reaches it while a container of it runs.
pub(super) fn phase(spec: &PodSpec, init: &[ContainerStatus], main: &[ContainerStatus], stopping: bool, old: Option<&str>) -> &'static str {
    let reached = match old {
        Some("Failed") => return "Failed",
        Some("Succeeded") => return "Succeeded",
        _ => reached(spec, init, main, stopping),
    };
    let runs = init.iter().chain(main).any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    match (reached, old) {
        ("Failed" | "Succeeded", Some("Running")) if runs => "Running",
        ("Failed" | "Succeeded", _) if runs => "Pending",
        _ => reached,
    }
}

/// The phase by what containers did, whether or not some go on.
fn reached(spec: &PodSpec, init: &[ContainerStatus], main: &[ContainerStatus], stopping: bool) -> &'static str {
    let (pending_init, failed_init) = init_progress(spec, init);
    if failed_init {
        return "Failed";
    }
    let mut count = counted(spec, main);
    let begun = count.running + count.stopped > 0;
    count.add_sidecars(spec, init, stopping);
    match count {
        _ if pending_init && !begun && !stopping => "Pending",
        // What waits will not begin any more.
        Count { waiting, running: 0, .. } if waiting > 0 && stopping && init.iter().chain(main).any(has_ended) => "Failed",
        Count { waiting, .. } if waiting > 0 => "Pending",
        Count { running, unknown: 0, .. } if running > 0 => "Running",
        Count { running: 0, unknown: 0, stopped, restartable, succeeded, .. } if stopped > 0 => match stopped == succeeded {
            _ if restartable > 0 && !stopping => "Running",
            true => "Succeeded",
            false => "Failed",
        },
        _ => "Pending",
    }
}

/// Whether a container has ended, now or before its last start.
fn has_ended(status: &ContainerStatus) -> bool {
    [&status.state, &status.last_state].into_iter().flatten().any(|state| state.terminated.is_some())
}

/// The phase while all containers are being removed to start anew: however they ended, they come back.
pub(super) fn while_all_restart(old: Option<&str>) -> &'static str {
    match old {
        Some("Failed") => "Failed",
        Some("Succeeded") => "Succeeded",
        Some("Running") => "Running",
        _ => "Pending",
    }
}

/// Whether init containers are under way, and whether one failed for good.
fn init_progress(spec: &PodSpec, statuses: &[ContainerStatus]) -> (bool, bool) {
    let (mut pending, mut failed) = (false, false);
    for container in spec.init_containers.iter().flatten() {
        let status = statuses.iter().find(|status| status.name == container.name);
        let state = status.and_then(|status| status.state.as_ref());
        if is_sidecar(container) {
            pending |= status.is_none_or(|status| status.started != Some(true));
            continue;
        }
        match state.and_then(|state| state.terminated.as_ref()) {
            Some(terminated) if terminated.exit_code == 0 => {}
            Some(ended) if !comes_back(spec, &container.name, ended) => failed = true,
            _ => pending = true,
        }
    }
    (pending, failed)
}

impl Count {
    /// While a sidecar runs, the pod does.
    fn add_sidecars(&mut self, spec: &PodSpec, statuses: &[ContainerStatus], stopping: bool) {
        for container in spec.init_containers.iter().flatten().filter(|container| is_sidecar(container)) {
            let state = statuses.iter().find(|status| status.name == container.name).and_then(|status| Some((status.state.as_ref()?, status)));
            let Some((state, status)) = state else { continue };
            let ended_before = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
            if state.running.is_some() {
                self.running += 1;
            } else if state.waiting.is_some() && !ended_before && !stopping {
                self.waiting += 1;
            }
        }
    }
}

fn counted(spec: &PodSpec, main: &[ContainerStatus]) -> Count {
    let mut count = Count::default();
    for status in main {
        let Some(state) = &status.state else {
            count.unknown += 1;
            continue;
        };
        if state.running.is_some() {
            count.running += 1;
        } else if let Some(ended) = &state.terminated {
            count.stopped += 1;
            count.restartable += usize::from(comes_back(spec, &status.name, ended));
            count.succeeded += usize::from(ended.exit_code == 0);
        } else if let Some(ended) = status.last_state.as_ref().and_then(|last| last.terminated.as_ref()) {
            count.stopped += 1;
            count.restartable += usize::from(comes_back(spec, &status.name, ended));
        } else {
            count.waiting += 1;
        }
    }
    count
}

/// Whether a container that ended so starts again.
fn comes_back(spec: &PodSpec, name: &str, ended: &ContainerStateTerminated) -> bool {
    let container = find_container(spec, name);
    ended.reason.as_deref() == Some(RESTARTING_ALL.0) || container.is_some_and(|container| restarts(spec, container, ended.exit_code))
}

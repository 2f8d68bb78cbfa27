//! Planning the way down: containers, then sandboxes, then what the pod has on disk; and of living pods dead containers, and all that
//! have to start anew.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Container;

use super::{
    observed::{ContainerView, RunState},
    plan::{Action, FAILED_KILL, LEAST_GRACE, Plan, Situation, StopReason, Stopping, is_sidecar},
    restarts::{containers, is_restarting_all, is_source},
};

/// Containers of one name that are kept: the newest, and the one before it for its logs.
const KEPT: usize = 2;

/// Plans the end of a pod.
pub(super) fn plan(situation: &Situation<'_>, stopping: Stopping, plan: &mut Plan) {
    let observed = situation.observed;
    if observed.running().next().is_some() {
        stop_all(situation, stopping.grace, plan);
        return;
    }
    // A step that was under way when the end came may still add a container.
    if situation.memory.busy {
        return;
    }
    for sandbox in observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
        stop_sandbox(situation, &sandbox.id, plan);
    }
    if observed.sandboxes.iter().any(|sandbox| sandbox.ready) {
        return;
    }
    if stopping.remove && !observed.is_empty() {
        for container in &observed.containers {
            remove_container(situation, container, false, plan);
        }
        if observed.containers.is_empty() {
            for sandbox in &observed.sandboxes {
                remove(situation, Action::RemoveSandbox { id: sandbox.id.clone() }, &sandbox.id, plan);
            }
        }
        return;
    }
    if !situation.memory.cleaned || (stopping.remove && !situation.memory.forgotten) {
        remove(situation, Action::CleanUp { logs: stopping.remove }, "", plan);
        return;
    }
    plan.gone = true;
}

/// Plans the end of all containers that have to start anew; says whether that is so.
pub(super) fn restart_all(situation: &Situation<'_>, plan: &mut Plan) -> bool {
    let Situation { spec, observed, memory, .. } = *situation;
    if !is_restarting_all(spec, observed) {
        return false;
    }
    let known = observed.containers.iter().filter_map(|seen| Some((containers(spec).find(|container| container.name == seen.name)?, seen)));
    let (sources, others): (Vec<_>, Vec<_>) = known.partition(|(container, seen)| is_source(container, seen));
    for (_, seen) in others.iter().filter(|(_, seen)| seen.state == RunState::Running) {
        stop_container(situation, seen, 0, StopReason::AllRestart, "killing", plan);
    }
    if others.iter().any(|(_, seen)| seen.state == RunState::Running) {
        return true;
    }
    // What is being started would be left over.
    let last = if others.is_empty() && !memory.busy { sources } else { others };
    for (_, seen) in last {
        remove_container(situation, seen, true, plan);
    }
    true
}

/// Main containers stop together; sidecars after them, the last one first, but for their preStop hooks, which run at once. All share one
/// grace period: when it is over, whoever still waits stops, too (KEP-753).
fn stop_all(situation: &Situation<'_>, grace: u64, plan: &mut Plan) {
    let Situation { spec, observed, memory, now, .. } = *situation;
    let sidecars: Vec<_> = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container)).collect();
    let (late, main): (Vec<_>, Vec<_>) = observed.running().partition(|running| sidecars.iter().any(|sidecar| sidecar.name == running.name));
    for container in &main {
        stop_container(situation, container, grace, StopReason::PodStops, &format!("Stopping container {}", container.name), plan);
    }
    // What is being started may be a main container, which would run without them.
    if late.is_empty() || memory.starting.is_some() {
        return;
    }
    let began = memory.stop_began.unwrap_or(now);
    let spent = now.duration_since(began).as_secs().max(0).unsigned_abs();
    let left = grace.saturating_sub(spent);
    let mut waits = !main.is_empty();
    for sidecar in sidecars.iter().rev() {
        let Some(seen) = late.iter().find(|seen| seen.name == sidecar.name) else { continue };
        let is_hooked = runs_hook(situation, sidecar, seen, left, plan);
        if left == 0 || !(waits || is_hooked) {
            stop_sidecar(situation, seen, grace, left, plan);
        }
        waits = true;
    }
    let over = began.saturating_add(SignedDuration::from_secs(i64::try_from(grace).unwrap_or(i64::MAX)));
    if let Ok(over) = over
        && left > 0
    {
        plan.wake(over);
    }
}

/// Has a sidecar's preStop hook run, if there is one; says whether it has to be waited for.
fn runs_hook(situation: &Situation<'_>, sidecar: &Container, seen: &ContainerView, left: u64, plan: &mut Plan) -> bool {
    let has_hook = sidecar.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.pre_stop.is_some());
    if !has_hook || situation.memory.stopping.contains_key(&seen.id) {
        return false;
    }
    match situation.memory.hooks.get(&seen.id) {
        Some(is_done) => !is_done,
        None if left == 0 => false,
        None => {
            plan.actions.push(Action::RunPreStop { id: seen.id.clone(), name: seen.name.clone(), grace: left });
            true
        }
    }
}

/// Plans the signal for a sidecar within what is left of the grace period, unless it is under way with no more.
fn stop_sidecar(situation: &Situation<'_>, seen: &ContainerView, grace: u64, left: u64, plan: &mut Plan) {
    let memory = situation.memory;
    if memory.stopping.get(&seen.id).is_some_and(|given| *given <= grace) || has_just_failed(situation, plan) {
        return;
    }
    // With its hook it was told already.
    let message = if memory.hooks.contains_key(&seen.id) { String::new() } else { format!("Stopping container {}", seen.name) };
    let (id, name) = (seen.id.clone(), seen.name.clone());
    plan.actions.push(Action::StopContainer { id, name, grace: left.max(LEAST_GRACE.min(grace)), reason: StopReason::Turn, message });
}

/// Plans the stop of a container unless one with no more grace is under way.
pub(super) fn stop_container(situation: &Situation<'_>, container: &ContainerView, grace: u64, reason: StopReason, message: &str, plan: &mut Plan) {
    if situation.memory.stopping.get(&container.id).is_some_and(|given| *given <= grace) || has_just_failed(situation, plan) {
        return;
    }
    let (id, name) = (container.id.clone(), container.name.clone());
    plan.actions.push(Action::StopContainer { id, name, grace, reason, message: message.to_owned() });
}

pub(super) fn stop_sandbox(situation: &Situation<'_>, id: &str, plan: &mut Plan) {
    remove(situation, Action::StopSandbox { id: id.to_owned() }, id, plan);
}

pub(super) fn remove_container(situation: &Situation<'_>, container: &ContainerView, keep_log: bool, plan: &mut Plan) {
    remove(situation, Action::RemoveContainer { id: container.id.clone(), keep_log }, &container.id, plan);
}

fn remove(situation: &Situation<'_>, action: Action, id: &str, plan: &mut Plan) {
    if !situation.memory.removing.contains(id) && !held_back(situation, plan) {
        plan.actions.push(action);
    }
}

/// A failed step down is tried again after a moment.
fn held_back(situation: &Situation<'_>, plan: &mut Plan) -> bool {
    match situation.memory.failures.get("") {
        Some(failure) if failure.retry_at > situation.now => {
            plan.wake(failure.retry_at);
            true
        }
        _ => false,
    }
}

/// The same of a stop, which tells of itself each time. What else failed does not hold it up.
fn has_just_failed(situation: &Situation<'_>, plan: &mut Plan) -> bool {
    let failed = situation.memory.failures.get("").is_some_and(|failure| failure.reason == FAILED_KILL);
    failed && held_back(situation, plan)
}

/// Removes dead containers beyond those kept for their logs, and sandboxes that nothing is left in.
pub(super) fn collect_garbage(situation: &Situation<'_>, plan: &mut Plan) {
    let observed = situation.observed;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for container in &observed.containers {
        let count = seen.entry(container.name.as_str()).or_default();
        *count += 1;
        if *count > KEPT && container.state != RunState::Running {
            remove_container(situation, container, false, plan);
        }
    }
    for sandbox in observed.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready) {
        if !observed.containers.iter().any(|container| container.sandbox == sandbox.id) {
            remove(situation, Action::RemoveSandbox { id: sandbox.id.clone() }, &sandbox.id, plan);
        }
    }
}

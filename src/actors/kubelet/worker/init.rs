//! Planning of init containers: one after the other; those that always restart (sidecars) keep running.

use k8s_openapi::api::core::v1::Container;

use super::{
    observed::{ContainerView, RunState},
    plan::{Plan, Situation, is_sidecar, next_attempt, plan_running, restart, start},
    restarts::restarts,
};

/// Plans init containers within the sandbox; says whether the main containers may run.
pub(super) fn plan(situation: &Situation<'_>, sandbox: &str, plan: &mut Plan) -> bool {
    let spec = situation.spec;
    let begun = spec.containers.iter().any(|container| situation.observed.newest_in(&container.name, sandbox).is_some());
    if !begun && spec.init_containers.iter().flatten().any(|container| has_failed(situation, container, sandbox)) {
        // Sidecars before it do not start again for that.
        plan.finished = true;
        return false;
    }
    for container in spec.init_containers.iter().flatten() {
        let seen = situation.observed.newest_in(&container.name, sandbox);
        let passed = match seen {
            _ if begun && !is_sidecar(container) => true,
            None if begun && !situation.observed.containers.iter().any(|seen| seen.name == container.name) => {
                // Collected: it ended long ago.
                start(situation, plan, container, next_attempt(situation, container, None));
                true
            }
            None => {
                start(situation, plan, container, next_attempt(situation, container, None));
                begun
            }
            Some(seen) if is_sidecar(container) => sidecar(situation, container, seen, plan) || begun,
            Some(seen) => once(situation, container, seen, plan),
        };
        if !passed || plan.finished {
            return false;
        }
    }
    true
}

/// Whether an ordinary init container ended in a way that ends the pod.
fn has_failed(situation: &Situation<'_>, container: &Container, sandbox: &str) -> bool {
    let ended = situation.observed.newest_in(&container.name, sandbox).filter(|seen| seen.state == RunState::Exited && seen.exit_code != 0);
    !is_sidecar(container) && ended.is_some_and(|seen| !restarts(situation.spec, container, seen.exit_code))
}

/// A sidecar lets the next container begin once it has started up.
fn sidecar(situation: &Situation<'_>, container: &Container, seen: &ContainerView, plan: &mut Plan) -> bool {
    match seen.state {
        RunState::Running => {
            let going = plan_running(situation, container, seen, plan).is_some();
            !going && situation.verdicts.get(&seen.id).is_some_and(|verdict| verdict.started)
        }
        RunState::Exited => {
            restart(situation, container, seen, plan);
            false
        }
        RunState::Created | RunState::Unknown => {
            start(situation, plan, container, next_attempt(situation, container, Some(seen)));
            false
        }
    }
}

/// An ordinary init container has to succeed.
fn once(situation: &Situation<'_>, container: &Container, seen: &ContainerView, plan: &mut Plan) -> bool {
    match seen.state {
        RunState::Running => false,
        RunState::Exited if seen.exit_code == 0 => true,
        RunState::Exited if !restarts(situation.spec, container, seen.exit_code) => {
            plan.finished = true;
            false
        }
        RunState::Exited => {
            restart(situation, container, seen, plan);
            false
        }
        RunState::Created | RunState::Unknown => {
            start(situation, plan, container, next_attempt(situation, container, Some(seen)));
            false
        }
    }
}

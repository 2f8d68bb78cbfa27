//! Whether ended containers start again: restart policies of pods and containers, and rules for exit codes (KEP-5307). A rule may have
//! all containers of the pod start anew, in the pod's own sandbox and with its volumes (KEP-5532): then they are killed and removed, the
//! init containers among them, and those whose end asked for it go last, so that a kubelet that starts meanwhile finds the reason.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::observed::{ContainerView, Observed, RunState};

const RESTART: &str = "Restart";
const RESTART_ALL: &str = "RestartAllContainers";

/// The reason and the message of a container that was removed to start anew.
pub const RESTARTING_ALL: (&str, &str) = ("RestartingAllContainers", "The container is removed because RestartAllContainers in place");

/// The pod's restart policy.
pub fn restart_policy_of_pod(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

/// The restart policy of a container: its own, or the pod's.
pub fn restart_policy<'a>(spec: &'a PodSpec, container: &'a Container) -> &'a str {
    container.restart_policy.as_deref().unwrap_or_else(|| restart_policy_of_pod(spec))
}

/// What the first rule that an exit code meets says.
fn action_of(container: &Container, exit_code: i32) -> Option<&str> {
    let mut rules = container.restart_policy_rules.iter().flatten();
    let met = rules.find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| codes.values.iter().flatten().any(|code| *code == exit_code) == (codes.operator == "In"))
    });
    met.map(|rule| rule.action.as_str())
}

/// Whether a container that ended with this code is to be started again.
pub fn restarts(spec: &PodSpec, container: &Container, exit_code: i32) -> bool {
    if matches!(action_of(container, exit_code), Some(RESTART | RESTART_ALL)) {
        return true;
    }
    match restart_policy(spec, container) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Whether a container that ended with this code has all others start anew.
pub fn restarts_all(container: &Container, exit_code: i32) -> bool {
    action_of(container, exit_code) == Some(RESTART_ALL)
}

/// The containers of a pod that start anew together: ephemeral ones do not.
pub(super) fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Whether a rule of the pod may have all its containers start anew.
pub fn may_restart_all(spec: &PodSpec) -> bool {
    containers(spec).flat_map(|container| container.restart_policy_rules.iter().flatten()).any(|rule| rule.action == RESTART_ALL)
}

/// Whether the runtime has any of the pod's containers, ephemeral ones aside.
pub fn has_any(spec: &PodSpec, observed: &Observed) -> bool {
    containers(spec).any(|container| observed.newest(&container.name).is_some())
}

/// Whether a container has ended by which all have to start anew.
pub fn is_restarting_all(spec: &PodSpec, observed: &Observed) -> bool {
    containers(spec).any(|container| observed.newest(&container.name).is_some_and(|seen| is_source(container, seen)))
}

/// Whether a container is one whose end has all start anew.
pub(super) fn is_source(container: &Container, seen: &ContainerView) -> bool {
    seen.state == RunState::Exited && restarts_all(container, seen.exit_code)
}

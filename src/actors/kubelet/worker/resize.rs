//! Planning of resizes: pure. Containers that have to start again for one are stopped like others whose spec changed; then all the rest
//! is one step.

use k8s_openapi::api::core::v1::Container;

use super::{
    observed::ContainerView,
    plan::{Action, Memory, Plan, Situation, build},
};
use crate::kubelet::resize::operations::{changes, pod_target};

/// Under which failures of a resize are kept; no container is called so.
pub const SUBJECT: &str = "/resize";

/// Plans what containers and the pod's cgroup get, once those that start again for it have stopped.
pub(super) fn plan(situation: &Situation<'_>, plan: &mut Plan) {
    let Situation { pod, spec, observed, memory, .. } = *situation;
    let Some(actuated) = &memory.actuated else { return };
    let changes = changes(spec, observed, actuated);
    let cgroup = pod_target(pod, spec, actuated.pod) != actuated.pod;
    if (changes.is_empty() && !cgroup) || changes.iter().any(|change| change.restarts()) {
        return;
    }
    build(situation, plan, SUBJECT, Action::Resize);
}

/// Whether a running container has to start again to get another size.
pub(super) fn restarts(situation: &Situation<'_>, container: &Container, seen: &ContainerView) -> bool {
    let Some(actuated) = &situation.memory.actuated else { return false };
    let changes = changes(situation.spec, situation.observed, actuated);
    changes.iter().any(|change| change.container.name == container.name && change.seen.id == seen.id && change.restarts())
}

/// Whether an ended container was stopped only to get another size: it comes back at once, whatever its restart policy.
pub fn is_replaced(memory: &Memory, seen: &ContainerView) -> bool {
    memory.replacing.contains(&seen.id)
}

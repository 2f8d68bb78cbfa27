//! Ephemeral containers: visitors that are added to a running pod. Each is started once, and never again.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec};

use super::plan::{Action, Plan, Situation, build, find_container};

/// Plans the start of those that never ran. They come before all others, so that they can look into what does not start.
pub(super) fn plan(situation: &Situation<'_>, plan: &mut Plan) {
    for container in situation.spec.ephemeral_containers.iter().flatten() {
        let name = &container.name;
        // Of one that ran in a sandbox that is gone the runtime may know nothing any more.
        let ran = situation.observed.newest(name).is_some() || situation.memory.logged.contains_key(name);
        if !ran {
            build(situation, plan, name, Action::StartContainer { name: name.clone(), attempt: 0 });
        }
    }
}

/// Any container of a pod by name, an ephemeral one in the form of the others.
pub fn find_any<'a>(spec: &'a PodSpec, name: &str) -> Option<Cow<'a, Container>> {
    let visitor = || find(spec, name).map(|container| Cow::Owned(as_container(container)));
    find_container(spec, name).map(Cow::Borrowed).or_else(visitor)
}

/// An ephemeral container by name.
pub fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a EphemeralContainer> {
    spec.ephemeral_containers.iter().flatten().find(|container| container.name == name)
}

/// An ephemeral container in the form of the others: what only it has is whose processes it sees.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let of = ephemeral.clone();
    Container {
        args: of.args,
        command: of.command,
        env: of.env,
        env_from: of.env_from,
        image: of.image,
        image_pull_policy: of.image_pull_policy,
        lifecycle: of.lifecycle,
        liveness_probe: of.liveness_probe,
        name: of.name,
        ports: of.ports,
        readiness_probe: of.readiness_probe,
        resize_policy: of.resize_policy,
        resources: of.resources,
        restart_policy: of.restart_policy,
        restart_policy_rules: of.restart_policy_rules,
        security_context: of.security_context,
        startup_probe: of.startup_probe,
        stdin: of.stdin,
        stdin_once: of.stdin_once,
        termination_message_path: of.termination_message_path,
        termination_message_policy: of.termination_message_policy,
        tty: of.tty,
        volume_devices: of.volume_devices,
        volume_mounts: of.volume_mounts,
        working_dir: of.working_dir,
    }
}

//! Pod conditions.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};

use super::{StatusInputs, whole_seconds};
use crate::kubelet::{
    resize::pending::{IN_PROGRESS, PENDING},
    worker::{
        plan::is_sidecar,
        restarts::{has_any, may_restart_all},
    },
};

/// The conditions that the kubelet writes; all others are somebody else's and stay.
pub(super) const OWNED: &[&str] = &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Those of a resize, which go when it is over.
pub(super) const RESIZE: [&str; 2] = [PENDING, IN_PROGRESS];

/// All containers start anew, which only pods with such a rule tell.
const RESTARTING: &str = "AllContainersRestarting";

const DISRUPTION: &str = "DisruptionTarget";
const BY_KUBELET: &str = "TerminationByKubelet";

/// Whether a condition is one that the kubelet writes. Others write `DisruptionTarget`, too.
pub fn is_own(condition: &PodCondition) -> bool {
    let kind = condition.type_.as_str();
    OWNED.contains(&kind)
        || RESIZE.contains(&kind)
        || kind == RESTARTING
        || (condition.type_ == DISRUPTION && condition.reason.as_deref() == Some(BY_KUBELET))
}

/// One condition before it is compared with the old one.
struct Finding {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    fn of(kind: &'static str, failing: Option<(&'static str, String)>) -> Self {
        let holds = failing.is_none();
        let (reason, message) = failing.map_or((None, None), |(reason, message)| (Some(reason), Some(message).filter(|text| !text.is_empty())));
        Finding { kind, holds, reason, message }
    }
}

/// All conditions of the new status, those of others included.
pub(super) fn conditions(inputs: &StatusInputs<'_>, spec: &PodSpec, old: &PodStatus, status: &PodStatus) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or_default();
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let main = status.container_statuses.as_deref().unwrap_or_default();
    let sandbox = inputs.observed.ready_sandbox();
    let networked = sandbox.is_some_and(|sandbox| spec.host_network == Some(true) || !sandbox.ips.is_empty());
    let containers = containers_ready(spec, init, main, phase);
    let ready = containers.clone().or_else(|| failing_gate(spec, old));
    let findings = [
        Finding { kind: "PodReadyToStartContainers", holds: networked, reason: None, message: None },
        initialized(spec, old, (init, main), phase),
        Finding::of("Ready", ready),
        Finding::of("ContainersReady", containers),
        Finding { kind: "PodScheduled", holds: true, reason: None, message: None },
    ];
    let before = old.conditions.as_deref().unwrap_or_default();
    let disruption = inputs.failure.filter(|failure| failure.evicted.is_some_and(|evicted| evicted.disruption)).map(|failure| {
        let message = Some(failure.disruption_message().to_owned());
        Finding { kind: DISRUPTION, holds: true, reason: Some(BY_KUBELET), message }
    });
    let replaced = |kind: &str| OWNED.contains(&kind) || RESIZE.contains(&kind) || kind == RESTARTING || (kind == DISRUPTION && disruption.is_some());
    let others: Vec<_> = before.iter().filter(|condition| !replaced(&condition.type_)).cloned().collect();
    let restarting = may_restart_all(spec).then(|| {
        let holds = super::is_restarting_all(inputs, spec) && has_any(spec, inputs.observed);
        let (reason, message) =
            if holds { (Some("RestartAllContainersStarted"), Some("container exited with restart policy rule".into())) } else { (None, None) };
        Finding { kind: RESTARTING, holds, reason, message }
    });
    let own = findings.into_iter().chain(restarting).chain(disruption).map(|finding| condition(inputs, finding, before));
    own.chain(of_resize(inputs, phase, before)).chain(others).collect()
}

/// Whether a status tells that all containers start anew.
pub(super) fn tells_restart_of_all(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == RESTARTING && condition.status == "True")
}

fn condition(inputs: &StatusInputs<'_>, finding: Finding, before: &[PodCondition]) -> PodCondition {
    let status = if finding.holds { "True" } else { "False" };
    let old = before.iter().find(|old| old.type_ == finding.kind);
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    PodCondition {
        type_: finding.kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.map(str::to_owned),
        message: finding.message,
        last_transition_time: since.or(Some(whole_seconds(inputs.now))),
        observed_generation: inputs.pod.metadata.generation,
        last_probe_time: None,
    }
}

/// A resize that is not allocated, and one that is being carried out. A new reason is a change of its own.
fn of_resize(inputs: &StatusInputs<'_>, phase: &str, before: &[PodCondition]) -> Vec<PodCondition> {
    if matches!(phase, "Succeeded" | "Failed") {
        return Vec::new();
    }
    let told = |kind: &str, reason: Option<&str>, message: Option<&str>, generation: i64| {
        let old = before.iter().find(|old| old.type_ == kind && old.reason.as_deref() == reason);
        PodCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: reason.map(str::to_owned),
            message: message.filter(|message| !message.is_empty()).map(str::to_owned),
            last_transition_time: old.and_then(|old| old.last_transition_time.clone()).or(Some(whole_seconds(inputs.now))),
            observed_generation: Some(generation).filter(|generation| *generation != 0),
            last_probe_time: None,
        }
    };
    let pending = inputs.resize.pending.as_ref();
    let pending = pending.map(|pending| told(PENDING, Some(pending.reason), Some(&pending.message), pending.generation));
    let progress = inputs.resize.progress.as_ref().map(|progress| {
        let error = progress.error.as_deref();
        told(IN_PROGRESS, error.map(|_| "Error"), error, progress.generation)
    });
    pending.into_iter().chain(progress).collect()
}

fn initialized(spec: &PodSpec, old: &PodStatus, (init, main): (&[ContainerStatus], &[ContainerStatus]), phase: &str) -> Finding {
    let begun = main.iter().any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some()));
    if phase == "Succeeded" {
        return Finding { kind: "Initialized", holds: true, reason: Some("PodCompleted"), message: None };
    }
    let complete = |status: &&ContainerStatus| {
        let sidecar = spec.init_containers.iter().flatten().any(|container| container.name == status.name && is_sidecar(container));
        if sidecar { status.started == Some(true) } else { status.ready }
    };
    // What was once initialized stays so while all containers start anew.
    let was = || old.conditions.iter().flatten().any(|condition| condition.type_ == "Initialized" && condition.status == "True");
    if phase != "Failed" && may_restart_all(spec) && was() {
        return Finding::of("Initialized", None);
    }
    let missing: Vec<_> = init.iter().filter(|status| !complete(status)).map(|status| status.name.as_str()).collect();
    if missing.is_empty() || (begun && phase != "Failed") {
        return Finding::of("Initialized", None);
    }
    Finding::of("Initialized", Some(("ContainersNotInitialized", format!("containers with incomplete status: [{}]", missing.join(" ")))))
}

fn containers_ready(spec: &PodSpec, init: &[ContainerStatus], main: &[ContainerStatus], phase: &str) -> Option<(&'static str, String)> {
    match phase {
        "Succeeded" => return Some(("PodCompleted", String::new())),
        "Failed" => return Some(("PodFailed", String::new())),
        _ => {}
    }
    let sidecars = init.iter().filter(|status| spec.init_containers.iter().flatten().any(|c| c.name == status.name && is_sidecar(c)));
    let unready: Vec<_> = sidecars.chain(main).filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    (!unready.is_empty()).then(|| ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))))
}

fn failing_gate(spec: &PodSpec, old: &PodStatus) -> Option<(&'static str, String)> {
    let gates = spec.readiness_gates.iter().flatten().map(|gate| gate.condition_type.as_str());
    let complaints = gates.filter_map(|gate| match old.conditions.iter().flatten().find(|condition| condition.type_ == gate) {
        None => Some(format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.")),
        Some(condition) if condition.status != "True" => {
            Some(format!("the status of pod readiness gate \"{gate}\" is not \"True\", but {}", condition.status))
        }
        Some(_) => None,
    });
    let complaints: Vec<_> = complaints.collect();
    (!complaints.is_empty()).then(|| ("ReadinessGatesNotReady", complaints.join(", ")))
}

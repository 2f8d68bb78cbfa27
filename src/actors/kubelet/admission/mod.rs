//! Whether a pod may run on this node: pure. Each pod is asked about once, before anything of it is made, wherever it
//! comes from: static pods never passed the API server, and older rules may have let others into it.
//!
//! What the node or its runtime cannot give is refused here with upstream's reasons; what only shows with an image or a
//! sandbox (its user, its runtime handler) is refused when that is made.

pub mod apparmor;
pub mod fit;
pub mod listening;
pub mod preemption;
mod spec;
pub mod sysctl;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Taint};
use troupe_cri::{RuntimeFeatures, resources::qos_class};

use self::{apparmor::AppArmor, sysctl::Allowlist};
use super::{
    cluster::is_static,
    container_manager::refusal::Refusal,
    eviction::{self, rank::is_critical},
    worker::ephemeral::as_container,
};
use crate::scheduler::tolerations::tolerates;

/// The label of a pod that says which system it is made for.
const OS_LABEL: &str = "kubernetes.io/os";
const OS: &str = "linux";

/// What of the node decides whether a pod may run on it.
#[derive(Clone, Debug, Default)]
pub struct NodeAbilities {
    pub apparmor: AppArmor,
    pub sysctls: Allowlist,
}

/// Why a pod may not run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Cow<'static, str>,
    pub message: String,
}

impl Rejection {
    fn new(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Rejection { reason: reason.into(), message: message.into() }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Rejection::new(refusal.reason, refusal.message)
    }
}

/// Lets pods in, unless the machine shuts down.
///
/// # Errors
/// As upstream's `NodeShutdown`.
pub fn shutdown(shutting_down: bool) -> Result<(), Rejection> {
    if shutting_down { Err(Rejection::new("NodeShutdown", "Pod was rejected as the node is shutting down.")) } else { Ok(()) }
}

/// Lets a pod in, or says why not.
///
/// # Errors
/// The first reason, in upstream's order.
pub fn admit(pod: &Pod, node: &NodeAbilities, runtime: &RuntimeFeatures) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    node.sysctls.check(spec).map_err(|why| Rejection::new("SysctlForbidden", format!("forbidden sysctl: {why}")))?;
    operating_system(pod, spec)?;
    groups_policy(spec, runtime)?;
    node.apparmor.check(pod, spec).map_err(|why| Rejection::new("AppArmor", format!("Cannot enforce AppArmor: {why}")))?;
    spec::check(pod, spec, runtime).map_err(|why| Rejection::new("UnexpectedAdmissionError", why))
}

/// Of what the node is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// Lets a pod in, or says of what the node is short. While a disk is, or process ids are few, none is begun but the system's; while only
/// memory is short, none that asks for nothing, unless it tolerates that; as upstream.
///
/// # Errors
/// When the node is short of something.
pub fn pressure(pod: &Pod, pressure: Pressure) -> Result<(), Rejection> {
    // Whatever its annotations say: what the API has, has a version.
    let of_manifest = is_static(pod) && pod.metadata.resource_version.is_none();
    let begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    if begun || is_critical(pod) || of_manifest {
        return Ok(());
    }
    let only_memory = Pressure { memory: true, ..Pressure::default() };
    if pressure == only_memory && (qos_class(pod) != "BestEffort" || tolerates_short_memory(pod)) {
        return Ok(());
    }
    let all = [(pressure.disk, "DiskPressure"), (pressure.memory, "MemoryPressure"), (pressure.pids, "PIDPressure")];
    let conditions: Vec<&str> = all.into_iter().filter(|(holds, _)| *holds).map(|(_, condition)| condition).collect();
    if conditions.is_empty() {
        return Ok(());
    }
    Err(Rejection::new(eviction::REASON, format!("The node had condition: [{}]. ", conditions.join(" "))))
}

fn tolerates_short_memory(pod: &Pod) -> bool {
    let taint = Taint { key: "node.kubernetes.io/memory-pressure".into(), effect: "NoSchedule".into(), ..Taint::default() };
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| tolerates(toleration, &taint))
}

fn operating_system(pod: &Pod, spec: &PodSpec) -> Result<(), Rejection> {
    if pod.metadata.labels.as_ref().and_then(|labels| labels.get(OS_LABEL)).is_some_and(|os| os != OS) {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(Rejection::new("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    if spec.os.as_ref().is_some_and(|os| os.name != OS) {
        return Err(Rejection::new("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    Ok(())
}

fn groups_policy(spec: &PodSpec, runtime: &RuntimeFeatures) -> Result<(), Rejection> {
    let policy = spec.security_context.as_ref().and_then(|context| context.supplemental_groups_policy.as_deref());
    match policy {
        None | Some("Merge") => Ok(()),
        Some("Strict") if runtime.supplemental_groups_policy => Ok(()),
        Some(policy) => {
            let message = format!("SupplementalGroupsPolicy={policy} is not supported in this node");
            Err(Rejection::new("SupplementalGroupsPolicyNotSupported", message))
        }
    }
}

/// All containers of a pod with the paths of their fields.
fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, Container)> {
    let listed = |list: &'static str, all: &[Container]| -> Vec<_> {
        all.iter().cloned().enumerate().map(|(index, container)| (format!("spec.{list}[{index}]"), container)).collect()
    };
    let ephemeral = spec.ephemeral_containers.iter().flatten().enumerate();
    let ephemeral: Vec<_> = ephemeral.map(|(index, container)| (format!("spec.ephemeralContainers[{index}]"), as_container(container))).collect();
    let init = listed("initContainers", spec.init_containers.as_deref().unwrap_or_default());
    init.into_iter().chain(listed("containers", &spec.containers)).chain(ephemeral)
}

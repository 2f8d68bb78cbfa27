//! A pod's status: pure, from its spec, what the runtime reports, why containers wait, and what probes say.

mod conditions;
mod containers;
mod phase;
mod sizes;
mod surroundings;
#[cfg(test)]
mod tests;
pub mod writer;

pub use self::surroundings::Surroundings;
pub use conditions::is_own;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{HostIP, Pod, PodIP, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use troupe_cri::resources::qos_class;

use super::{
    context::in_order,
    resize::{Actuated, allocation::Pending},
    worker::{
        observed::Observed,
        plan::{Verdict, Waiting},
        restarts,
    },
};

/// The reason of pods that made room for a critical one.
pub const PREEMPTING: &str = "Preempting";
/// The reason of pods that ended with their node.
pub const TERMINATED: &str = "Terminated";

/// An end that the kubelet itself gave the pod, such as `DeadlineExceeded` or `Evicted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFailure {
    pub reason: String,
    pub message: String,
    /// The node never let the pod in: its containers did not even wait.
    pub rejected: bool,
    /// It was evicted.
    pub evicted: Option<Evicted>,
}

impl PodFailure {
    /// Whether its containers have time to end: all that is not killed at once, or never began.
    pub fn has_time(&self) -> bool {
        !self.rejected && self.evicted.is_none_or(|evicted| evicted.grace > 0)
    }

    /// Whether it has succeeded if all its containers end well in the time that they have, as upstream tells it of pods that were in the way
    /// of others and not at fault.
    fn may_succeed(&self) -> bool {
        matches!(self.reason.as_str(), PREEMPTING | TERMINATED)
    }

    /// What the condition `DisruptionTarget` says.
    fn disruption_message(&self) -> &str {
        if self.reason == PREEMPTING { "Pod was preempted by Kubelet to accommodate a critical pod." } else { &self.message }
    }
}

/// How a pod was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Not because of limits of its own: the condition `DisruptionTarget` says so.
    pub disruption: bool,
    /// Seconds that its containers have to end; 0 when they are killed.
    pub grace: u64,
    /// Its ended containers stay, for their logs.
    pub stays: bool,
}

/// A resize that is being carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResizeProgress {
    /// The pod's generation that asked for it.
    pub generation: i64,
    /// Why it does not succeed.
    pub error: Option<String>,
}

/// What a status says of a resize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResizeStatus {
    pub pending: Option<Pending>,
    pub progress: Option<ResizeProgress>,
}

/// All that a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct StatusInputs<'a> {
    pub pod: &'a Pod,
    /// Its status so far.
    pub old: Option<&'a PodStatus>,
    pub observed: &'a Observed,
    /// By container name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// By container id.
    pub verdicts: &'a BTreeMap<String, Verdict>,
    /// The texts that containers left behind, by container id.
    pub messages: &'a BTreeMap<String, String>,
    pub failure: Option<&'a PodFailure>,
    /// The pod stops for good: what does not run will not run again.
    pub stopping: bool,
    pub node_ips: &'a [String],
    pub runtime_name: &'a str,
    pub resize: &'a ResizeStatus,
    /// What containers and the pod have of CPU and memory.
    pub actuated: Option<&'a Actuated>,
    /// Containers by id that were stopped to start again with another size.
    pub replacing: &'a BTreeSet<String>,
    pub surroundings: &'a Surroundings,
    pub now: Timestamp,
}

/// The status of a pod.
pub fn pod_status(inputs: &StatusInputs<'_>) -> PodStatus {
    let empty = PodSpec::default();
    let spec = inputs.pod.spec.as_ref().unwrap_or(&empty);
    let old = inputs.old.cloned().unwrap_or_default();
    // Why a pod failed is known to whoever ended it: a kubelet that starts later takes over what the API tells.
    let failed = inputs.old.filter(|old| old.phase.as_deref() == Some("Failed"));
    let rejected =
        inputs.failure.map_or(failed.is_some_and(|old| old.container_statuses.as_ref().is_none_or(Vec::is_empty)), |failure| failure.rejected);
    let never_began = inputs.observed.is_empty() && rejected;
    let mut init = containers::init_statuses(inputs, spec, &old);
    let mut main = containers::main_statuses(inputs, spec, &old, &init);
    let ephemeral = containers::ephemeral_statuses(inputs, spec, &old, &init);
    // A pod that has time to end has failed when it has ended, as upstream tells it.
    let runs = inputs.observed.running().next().is_some();
    let failure = inputs.failure.filter(|failure| !(runs && failure.has_time()));
    let by_containers = phase::phase(spec, &init, &main, inputs.stopping, old.phase.as_deref());
    let failure = failure.filter(|failure| !(failure.may_succeed() && by_containers == "Succeeded"));
    let phase = match failure {
        Some(_) => "Failed",
        None if is_restarting_all(inputs, spec) => phase::while_all_restart(old.phase.as_deref()),
        None => by_containers,
    };
    if matches!(phase, "Failed" | "Succeeded") && !runs {
        containers::end_all(spec, &mut init, &mut main);
    }
    let ips = pod_ips(inputs, spec, &old);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason: failure.map(|failure| failure.reason.clone()).or_else(|| failed?.reason.clone()),
        message: failure.map(|failure| failure.message.clone()).or_else(|| failed?.message.clone()),
        observed_generation: inputs.pod.metadata.generation,
        qos_class: Some(qos_class(inputs.pod).to_owned()),
        start_time: old.start_time.clone().or(Some(whole_seconds(inputs.now))),
        host_ip: inputs.node_ips.first().cloned(),
        host_ips: Some(inputs.node_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        init_container_statuses: (!init.is_empty() && !never_began).then_some(init),
        container_statuses: (!never_began).then_some(main),
        ephemeral_container_statuses: (!ephemeral.is_empty() && !never_began).then_some(ephemeral),
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        resize: old.resize.clone(),
        resources: sizes::of_pod(inputs, spec),
        allocated_resources: sizes::allocated_to_pod(spec),
        ..PodStatus::default()
    };
    status.conditions = Some(conditions::conditions(inputs, spec, &old, &status));
    status
}

/// Whether all containers of the pod are being removed to start anew, or have just been.
fn is_restarting_all(inputs: &StatusInputs<'_>, spec: &PodSpec) -> bool {
    let told = || inputs.old.is_some_and(conditions::tells_restart_of_all);
    !inputs.stopping && restarts::may_restart_all(spec) && (restarts::is_restarting_all(spec, inputs.observed) || told())
}

fn pod_ips(inputs: &StatusInputs<'_>, spec: &PodSpec, old: &PodStatus) -> Vec<String> {
    let Some(sandbox) = inputs.observed.sandbox() else {
        return old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    };
    if spec.host_network == Some(true) {
        return inputs.node_ips.to_vec();
    }
    if sandbox.ips.is_empty() && !sandbox.ready {
        // A stopped sandbox has lost its address; what the API shows stays until the pod is gone.
        return old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    in_order(&sandbox.ips, inputs.node_ips)
}

/// The API keeps whole seconds: finer ones would make each comparison fail.
pub(crate) fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

//! Whether there is a place for a pod on this node: the scheduler's filters, asked once more. Pure.
//!
//! Whoever names a node in a pod goes past the scheduler. What is too much, or belongs elsewhere, is refused with upstream's
//! reasons (`pkg/kubelet/lifecycle/predicate.go`) before anything of it is made.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use serde_json::{Value, json};
use troupe_api::resources::validation::resource_names::is_extended;

use super::Rejection;
use crate::{
    kubelet::eviction::rank::CRITICAL,
    pod_phase::is_finished,
    scheduler::{
        demand::{Demand, HostPort},
        node_info::NodeInfo,
        node_matching::required_matches,
        placed_pod::PlacedPod,
        plugins::{Insufficient, insufficient, ports_are_free},
        resources::specified_requests,
        tolerations::{compares, tolerates},
    },
};

/// Beginning of the reasons of pods that found too little of a resource.
const OUT_OF: &str = "OutOf";
/// Other reasons of pods that this module refused.
const PREDICATES: [&str; 3] = ["NodeAffinity", "NodePorts", "TaintToleration"];

/// A pod that this node holds or is to hold.
#[derive(Clone, Debug)]
pub struct Guest {
    pub pod: Arc<Pod>,
    /// It comes from a manifest of this node.
    pub is_static: bool,
}

impl Guest {
    /// Less important pods never keep it out.
    fn is_critical(&self) -> bool {
        self.is_static || self.priority().is_some_and(|priority| priority >= CRITICAL)
    }

    fn priority(&self) -> Option<i32> {
        self.pod.spec.as_ref()?.priority
    }

    /// Whether another pod has to end where this one needs its room. Only critical pods have others end.
    pub(super) fn preempts(&self, other: &Guest) -> bool {
        let matters_more = || self.priority().zip(other.priority()).is_some_and(|(own, others)| own > others);
        self.is_critical() && (!other.is_critical() || matters_more())
    }
}

/// What the node has to give.
#[derive(Clone, Debug)]
pub struct Place {
    pub node: Arc<Node>,
    /// No more pods than this run here, whatever the node object says.
    pub most_pods: i64,
    /// Where the daemons of this node listen, and whoever else must not lose his clients.
    pub listeners: Vec<HostPort>,
    /// Whether tolerations compare numbers (the feature `TaintTolerationComparisonOperators`).
    pub compares_tolerations: bool,
}

/// Let in, here or by a process before this one.
pub fn has_begun(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

/// It found no place, and nothing of it was ever made: there is nothing to do for it until it is deleted.
pub fn was_refused(pod: &Pod) -> bool {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref()).unwrap_or_default();
    let refused = reason.starts_with(OUT_OF) || PREDICATES.contains(&reason);
    refused && is_finished(pod) && !has_begun(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod has to find a place: not if it was let in before, goes away, or has ended.
pub fn needs_place(pod: &Pod) -> bool {
    !has_begun(pod) && !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether ports of this machine lead to the pod, which has addresses of its own: it does not have to listen there to be heard.
pub fn maps_ports(pod: &Pod) -> bool {
    let Some(spec) = pod.spec.as_ref().filter(|spec| spec.host_network != Some(true)) else { return false };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.flat_map(|container| container.ports.iter().flatten()).any(|port| port.host_port.is_some_and(|port| port != 0))
}

/// Lets a pod in beside the others, or says why not. What a critical pod asks for is weighed only against pods that do not make room for it
/// (`super::preemption`).
///
/// # Errors
/// The first reason, in upstream's order: resources, labels, ports, taints.
pub fn fits(guest: &Guest, others: &[Guest], place: &Place) -> Result<(), Rejection> {
    let demand = Demand::of(&guest.pod);
    let weighed = occupied(others.iter().filter(|other| !guest.preempts(other)), place);
    if let Some(lack) = insufficient(&known_to(&weighed, demand.clone()), &weighed).first() {
        return Err(out_of(lack));
    }
    let failed = |name: &'static str, why: &str| Err(Rejection::new(name, format!("Predicate {name} failed: {why}")));
    let Some(spec) = &guest.pod.spec else { return Ok(()) };
    if !required_matches(spec, &place.node) {
        return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    let is_taken = |port: &HostPort| place.listeners.iter().any(|listener| listener.collides(port));
    if demand.ports.iter().any(is_taken) || !ports_are_free(&demand.ports, &occupied(others, place)) {
        return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    let taints = place.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let mut hard = taints.iter().filter(|taint| taint.effect == "NoExecute");
    let counts = |toleration: &Toleration| place.compares_tolerations || !compares(toleration);
    if !guest.is_static && hard.any(|taint| !tolerations.iter().any(|toleration| counts(toleration) && tolerates(toleration, taint))) {
        return failed("TaintToleration", "node(s) had taints that the pod doesn't tolerate");
    }
    Ok(())
}

/// What is missing for a pod while all others stay.
pub(super) fn lacks(guest: &Guest, others: &[Guest], place: &Place) -> Vec<Insufficient> {
    let taken = occupied(others, place);
    insufficient(&known_to(&taken, Demand::of(&guest.pod)), &taken)
}

/// Whether the node has what a pod that runs here asks for instead of what it has, by its spec alone.
///
/// # Errors
/// The first resource of which there is too little.
pub fn takes(guest: &Guest, others: &[Guest], place: &Place) -> Result<(), Rejection> {
    let demand = Demand { requests: specified_requests(&guest.pod), ..Demand::of(&guest.pod) };
    let critical = guest.is_critical();
    let weighed = occupied(others.iter().filter(|other| !critical || other.is_critical()), place);
    let lack = insufficient(&known_to(&weighed, demand), &weighed);
    lack.first().map_or(Ok(()), |lack| Err(out_of(lack)))
}

fn occupied<'a>(others: impl IntoIterator<Item = &'a Guest>, place: &Place) -> NodeInfo {
    let mut info = NodeInfo::new(place.node.clone(), 0);
    info.allowed_pods = place.most_pods;
    others.into_iter().for_each(|other| info.add_pod(Arc::new(PlacedPod::of(&other.pod))));
    info
}

/// Without the extended resources that the node does not have: they may be the cluster's, such as an extender's.
fn known_to(node: &NodeInfo, mut demand: Demand) -> Demand {
    demand.requests.scalars.retain(|(name, _)| !is_extended(name) || node.allocatable.scalars.iter().any(|(known, _)| known == name));
    demand
}

fn out_of(lack: &Insufficient) -> Rejection {
    let Insufficient { name, requested, used, capacity } = lack;
    let message = format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
    Rejection::new(format!("{OUT_OF}{name}"), message)
}

/// A reason as metrics count it: pods name resources as they like, and must not make series with it.
pub fn counted(reason: &str) -> &str {
    match reason.strip_prefix(OUT_OF) {
        None | Some("cpu" | "memory" | "ephemeral-storage" | "pods") => reason,
        Some(_) => "OutOfExtendedResources",
    }
}

/// The status of a pod that finds no place.
pub fn refusal(pod: &Pod, rejection: &Rejection) -> Value {
    let message = format!("Pod was rejected: {}", rejection.message);
    let generation = pod.metadata.generation;
    let status = json!({"phase": "Failed", "reason": rejection.reason, "message": message, "observedGeneration": generation});
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

#[cfg(test)]
mod tests;

//! Which pod goes first when memory is short or process ids are few, and what it is told: as upstream ranks and words it. Pure.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::{Container, Pod};
use troupe_api::meta::Quantity;
use troupe_cri::quantity;

use crate::{
    kubelet::{eviction::signals::Met, stats::ContainerUsage},
    scheduler::resources::specified_requests,
};

/// A pod that may have to go.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub pod: &'a Pod,
    /// What its running containers use.
    pub used: &'a [ContainerUsage],
}

impl Candidate<'_> {
    /// Bytes in use, and how much that is beyond what the pod asked for.
    fn usage(&self) -> (u64, i128) {
        let used = self.used.iter().filter_map(|container| container.working_set).fold(0, u64::saturating_add);
        (used, i128::from(used) - i128::from(specified_requests(self.pod).memory))
    }
}

/// The pod that goes: one that uses more than it asked for, the least important, then whoever uses most beyond what it asked for.
pub fn first<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Option<Candidate<'a>> {
    candidates.max_by_key(|candidate| {
        let (_, beyond) = candidate.usage();
        let name = (&candidate.pod.metadata.namespace, &candidate.pod.metadata.name);
        (beyond > 0, Reverse(priority(candidate.pod)), beyond, Reverse(name))
    })
}

/// A pod that may have to go for its processes.
#[derive(Clone, Copy, Debug)]
pub struct ProcessCandidate<'a> {
    pub pod: &'a Pod,
    /// How many it has, threads among them; `None` where that is not known.
    pub processes: Option<u64>,
}

/// The pod that goes: the least important, then one whose processes nobody counts, then whoever has most of them.
pub fn first_of_processes<'a>(candidates: impl Iterator<Item = ProcessCandidate<'a>>) -> Option<ProcessCandidate<'a>> {
    candidates.max_by_key(|candidate| {
        let name = (&candidate.pod.metadata.namespace, &candidate.pod.metadata.name);
        (Reverse(priority(candidate.pod)), candidate.processes.is_none(), candidate.processes, Reverse(name))
    })
}

/// What a pod is told that was evicted for its processes.
pub fn process_message(met: &Met) -> String {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (threshold, available) = (Quantity::from_bytes(number(met.threshold)), Quantity::from_value(number(met.available)));
    format!("The node was low on resource: pids. Threshold quantity: {threshold}, available: {available}. ")
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// What an evicted pod is told.
pub fn message(candidate: &Candidate<'_>, met: &Met) -> String {
    let bytes = |bytes: u64| Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
    let (threshold, available) = (bytes(met.threshold), bytes(met.available));
    let mut text = format!("The node was low on resource: memory. Threshold quantity: {threshold}, available: {available}. ");
    for container in candidate.pod.spec.iter().flat_map(|spec| &spec.containers) {
        let used = candidate.used.iter().find(|used| used.name == container.name).and_then(|used| used.working_set);
        let asked = request(container);
        if let Some(used) = used.filter(|used| *used > asked) {
            let (used, asked) = (bytes(used), bytes(asked));
            text += &format!("Container {} was using {used}, request is {asked}, has larger consumption of memory. ", container.name);
        }
    }
    text
}

fn request(container: &Container) -> u64 {
    let asked = container.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("memory"));
    asked.map_or(0, |asked| u64::try_from(quantity::value(&asked.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubelet::eviction::signals::Signal;

    fn pod(name: &str, priority: i32, request: &str) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"memory": request}}});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [container]}})).expect("a pod")
    }

    fn uses(mebibytes: u64) -> Vec<ContainerUsage> {
        vec![ContainerUsage { name: "c".into(), working_set: Some(mebibytes << 20), ..Default::default() }]
    }

    #[test]
    fn who_exceeds_its_request_goes_first_then_the_least_important_then_the_largest() {
        let mut all = vec![
            (pod("modest", 0, "1Gi"), uses(1000)),
            (pod("important", 100, "10Mi"), uses(900)),
            (pod("large", 0, "10Mi"), uses(300)),
            (pod("larger", 0, "100Mi"), uses(500)),
            (pod("idle", 0, "0"), Vec::new()),
        ];
        let mut order = Vec::new();
        while let Some(name) = first(all.iter().map(|(pod, used)| Candidate { pod, used })).and_then(|first| first.pod.metadata.name.clone()) {
            all.retain(|(pod, _)| pod.metadata.name.as_ref() != Some(&name));
            order.push(name);
        }
        assert_eq!(order, ["larger", "large", "important", "idle", "modest"]);
    }

    #[test]
    fn the_message_tells_what_was_short_and_who_used_it() {
        let (pod, used) = (pod("p", 0, "10Mi"), uses(20));
        let met = Met { signal: Signal::MemoryAvailable, threshold: 100 << 20, available: 50 << 20, hard: true };
        let words = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
                     Container c was using 20Mi, request is 10Mi, has larger consumption of memory. ";
        assert_eq!(message(&Candidate { pod: &pod, used: &used }, &met), words);
    }

    #[test]
    fn the_least_important_goes_first_when_process_ids_are_few_then_who_has_most() {
        let mut all = vec![
            (pod("important", 100, "0"), Some(9000)),
            (pod("few", 0, "0"), Some(3)),
            (pod("many", 0, "0"), Some(300)),
            (pod("uncounted", 0, "0"), None),
        ];
        let mut order = Vec::new();
        let next = |all: &[(Pod, Option<u64>)]| {
            let candidates = all.iter().map(|(pod, processes)| ProcessCandidate { pod, processes: *processes });
            first_of_processes(candidates).and_then(|first| first.pod.metadata.name.clone())
        };
        while let Some(name) = next(&all) {
            all.retain(|(pod, _)| pod.metadata.name.as_ref() != Some(&name));
            order.push(name);
        }
        assert_eq!(order, ["uncounted", "many", "few", "important"]);
        let met = Met { signal: Signal::PidAvailable, threshold: 5000, available: 2048, hard: true };
        assert_eq!(process_message(&met), "The node was low on resource: pids. Threshold quantity: 5000, available: 2048. ");
    }
}

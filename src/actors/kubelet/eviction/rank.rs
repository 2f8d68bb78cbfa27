//! Which pod goes first when a disk is short, and what it is told: as upstream ranks and words it. Pure.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::Quantity;

use super::{
    limits::request,
    signals::{Met, Resource},
    usage::{Place, PodUse},
};
use crate::files::DiskUse;

/// Pods from here on are the system's (upstream's `SystemCriticalPriority`).
pub const CRITICAL: i32 = 2_000_000_000;

/// A pod that may have to go.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub pod: &'a Pod,
    /// `None` when it was not measured yet.
    pub used: Option<&'a PodUse>,
    /// Bytes a second by which its use grew.
    pub growth: u64,
}

/// Whether a pod is the system's: never evicted, and always let in. Upstream goes by the priority alone, which whoever may create a pod
/// somewhere can choose; the limits of the others and the room of the store would be theirs.
pub fn is_critical(pod: &Pod) -> bool {
    let important = pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= CRITICAL);
    important && pod.metadata.namespace.as_deref() == Some("kube-system")
}

/// The pod that goes: one that uses more than it asked for, the least important, then whoever uses most beyond what it asked for. When it
/// is `urgent`, whoever is filling the disk just now goes first among those that use more than they asked for.
pub fn first<'a>(candidates: impl Iterator<Item = Candidate<'a>>, resource: Resource, place: Place, urgent: bool) -> Option<Candidate<'a>> {
    candidates.filter(|candidate| !is_critical(candidate.pod)).max_by_key(|candidate| {
        let requested = requested(candidate.pod, resource);
        let used = candidate.used.map(|used| used.at(place));
        let amount = used.map_or(0, |used| amount(used, resource));
        let exceeds = amount > requested || used.is_some_and(|used| used.beyond);
        let growth = if urgent && exceeds { candidate.growth } else { 0 };
        let priority = candidate.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        // Of one that cannot be measured the worst is believed.
        let beyond = if used.is_some_and(|used| used.beyond) { i128::MAX } else { i128::from(amount) - i128::from(requested) };
        let name = (&candidate.pod.metadata.namespace, &candidate.pod.metadata.name);
        (used.is_none(), exceeds, growth, Reverse(priority), beyond, Reverse(name))
    })
}

fn amount(used: DiskUse, resource: Resource) -> u64 {
    match resource {
        // Nothing on a disk is memory or a process.
        Resource::Memory | Resource::Pids => 0,
        Resource::Storage => used.bytes,
        Resource::Inodes => used.inodes,
    }
}

/// Nobody can ask for inodes.
fn requested(pod: &Pod, resource: Resource) -> u64 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    if resource == Resource::Storage { containers.map(request).fold(0, u64::saturating_add) } else { 0 }
}

/// What an evicted pod is told.
pub fn message(pod: &Pod, used: Option<&PodUse>, met: &Met) -> String {
    let resource = met.signal.resource();
    let bytes = |bytes: u64| Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
    let available = match resource {
        Resource::Memory | Resource::Storage => bytes(met.available),
        Resource::Inodes | Resource::Pids => Quantity::from_value(i64::try_from(met.available).unwrap_or(i64::MAX)),
    };
    let mut text = format!("The node was low on resource: {resource}. Threshold quantity: {}, available: {available}. ", bytes(met.threshold));
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).filter(|_| resource == Resource::Storage);
    for container in containers {
        let Some(parts) = used.and_then(|used| used.containers.get(&container.name)) else { continue };
        let (uses, asked) = (parts.layer.bytes.saturating_add(parts.logs.bytes), request(container));
        if uses > asked {
            let (uses, asked) = (bytes(uses), bytes(asked));
            text += &format!("Container {} was using {uses}, request is {asked}, has larger consumption of {resource}. ", container.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubelet::eviction::{signals::Signal, usage::ContainerUse};

    fn pod(name: &str, priority: i32, request: &str) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"ephemeral-storage": request}}});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [container]}})).expect("a pod")
    }

    fn used(bytes: u64, inodes: u64) -> PodUse {
        let layer = DiskUse { bytes, inodes, beyond: false };
        PodUse { containers: [("c".to_owned(), ContainerUse { layer, ..ContainerUse::default() })].into(), ..PodUse::default() }
    }

    fn of_the_system(mut pod: Pod) -> Pod {
        pod.metadata.namespace = Some("kube-system".into());
        pod
    }

    fn ranked(mut all: Vec<(Pod, Option<PodUse>, u64)>, resource: Resource, urgent: bool) -> Vec<String> {
        let mut order = Vec::new();
        loop {
            let candidates = all.iter().map(|(pod, used, growth)| Candidate { pod, used: used.as_ref(), growth: *growth });
            let Some(name) = first(candidates, resource, Place::All, urgent).and_then(|first| first.pod.metadata.name.clone()) else { return order };
            all.retain(|(pod, ..)| pod.metadata.name.as_ref() != Some(&name));
            order.push(name);
        }
    }

    #[test]
    fn who_exceeds_its_request_goes_first_then_the_least_important_then_the_largest() {
        let all = vec![
            (pod("modest", 0, "10Gi"), Some(used(9 << 30, 1)), 0),
            (pod("important", 100, "1Gi"), Some(used(8 << 30, 1)), 0),
            (pod("large", 0, "1Gi"), Some(used(3 << 30, 1)), 0),
            (pod("larger", 0, "1Gi"), Some(used(4 << 30, 1)), 0),
            (of_the_system(pod("system", CRITICAL, "0")), Some(used(100 << 30, 1)), 0),
            (pod("unmeasured", 0, "0"), None, 0),
        ];
        assert!(is_critical(&of_the_system(pod("system", CRITICAL, "0"))));
        assert!(!is_critical(&of_the_system(pod("p", CRITICAL - 1, "0"))) && !is_critical(&pod("presumptuous", CRITICAL, "0")));
        assert_eq!(ranked(all, Resource::Storage, false), ["unmeasured", "larger", "large", "important", "modest"]);
    }

    #[test]
    fn who_fills_the_disk_just_now_goes_first_when_it_is_urgent() {
        let all = || {
            vec![
                (pod("large", 0, "0"), Some(used(8 << 30, 1)), 0),
                (pod("writer", 100, "0"), Some(used(1 << 30, 1)), 1 << 30),
                (pod("within", 0, "10Gi"), Some(used(2 << 30, 1)), 2 << 30),
            ]
        };
        assert_eq!(ranked(all(), Resource::Storage, true), ["writer", "large", "within"]);
        assert_eq!(ranked(all(), Resource::Storage, false), ["large", "writer", "within"]);
    }

    #[test]
    fn of_inodes_nothing_is_requested_and_what_hides_is_the_most() {
        let hidden = |mut used: PodUse| {
            used.files.beyond = true;
            used
        };
        let all = vec![
            (pod("many", 0, "10Gi"), Some(used(1, 1000)), 0),
            (pod("few", 0, "0"), Some(used(1 << 40, 10)), 0),
            (pod("hider", 0, "0"), Some(hidden(used(1, 1))), 0),
        ];
        assert_eq!(ranked(all, Resource::Inodes, false), ["hider", "many", "few"]);
    }

    #[test]
    fn the_message_tells_what_was_short_and_who_used_it() {
        let met = Met { signal: Signal::NodefsAvailable, threshold: 100 << 20, available: (50 << 20) + 4096, hard: true };
        let words = "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 51204Ki. \
                     Container c was using 2Gi, request is 1Gi, has larger consumption of ephemeral-storage. ";
        assert_eq!(message(&pod("p", 0, "1Gi"), Some(&used(2 << 30, 1)), &met), words);
        let met = Met { signal: Signal::NodefsInodesFree, threshold: 5000, available: 12, hard: true };
        assert_eq!(
            message(&pod("p", 0, "0"), Some(&used(2 << 30, 1)), &met),
            "The node was low on resource: inodes. Threshold quantity: 5000, available: 12. "
        );
    }
}

//! Which pods make room for a critical one, as upstream chooses them: as few as possible, best-effort ones rather than burstable and those
//! rather than guaranteed ones, and of equal ones those that ask for less. Pure.

use troupe_cri::resources::qos_class;

use super::fit::{Guest, Place, lacks};
use crate::scheduler::resources::{Resources, pod_requests};

/// Pods from least to most worth keeping.
const CLASSES: [&str; 3] = ["BestEffort", "Burstable", "Guaranteed"];

/// So much of a resource is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    resource: String,
    amount: i64,
}

/// A pod that could go, and what it asks for.
struct Candidate<'a> {
    guest: &'a Guest,
    requests: Resources,
}

impl Candidate<'_> {
    fn amount(&self, resource: &str) -> i64 {
        if resource == "pods" { 1 } else { self.requests.amount(resource) }
    }

    /// What this node is shortest of counts first.
    fn size(&self) -> (i64, i64) {
        (self.requests.memory, self.requests.cpu)
    }
}

/// The pods that have to end for one that was let in, and the resource that is missing; none where all is there, or where others cannot
/// leave enough.
pub fn victims<'a>(guest: &Guest, others: &'a [Guest], place: &Place) -> (Vec<&'a Guest>, Option<String>) {
    let missing = lacks(guest, others, place).into_iter();
    let missing = missing
        .map(|lack| Requirement { resource: lack.name.to_string(), amount: lack.requested.saturating_sub(lack.capacity.saturating_sub(lack.used)) });
    let missing: Vec<_> = missing.filter(|missing| missing.amount > 0).collect();
    let candidate = |other: &'a Guest| Candidate { guest: other, requests: pod_requests(&other.pod) };
    let mut classes = CLASSES.map(|class| {
        let of_class = others.iter().filter(|other| guest.preempts(other) && qos_class(&other.pod) == class);
        of_class.map(candidate).collect::<Vec<_>>()
    });
    // What is worth most goes only for what all others together cannot leave, and so on downwards.
    for index in (0..classes.len()).rev() {
        let rest = without(&missing, classes.iter().enumerate().filter(|(other, _)| *other != index).flat_map(|(_, class)| class));
        let Some(chosen) = nearest(std::mem::take(&mut classes[index]), rest) else { return (Vec::new(), None) };
        classes[index] = chosen;
    }
    let resource = missing.first().map(|missing| missing.resource.clone());
    (classes.into_iter().flatten().map(|candidate| candidate.guest).collect(), resource)
}

/// What is still missing when these have gone.
fn without<'c, 'a: 'c>(missing: &[Requirement], gone: impl Iterator<Item = &'c Candidate<'a>>) -> Vec<Requirement> {
    let gone: Vec<_> = gone.collect();
    let left = missing.iter().map(|missing| {
        let amount = gone.iter().fold(missing.amount, |left, candidate| left.saturating_sub(candidate.amount(&missing.resource)));
        Requirement { amount, ..missing.clone() }
    });
    left.filter(|missing| missing.amount > 0).collect()
}

/// As few of these as leave what is missing, each time the one that leaves most of it; `None` where all together do not.
fn nearest<'a>(mut candidates: Vec<Candidate<'a>>, mut missing: Vec<Requirement>) -> Option<Vec<Candidate<'a>>> {
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let ranked = candidates.iter().enumerate().rev().map(|(index, candidate)| (distance(candidate, &missing), candidate.size(), index));
        let (_, _, best) = ranked.min_by(|one, other| one.0.total_cmp(&other.0).then_with(|| one.1.cmp(&other.1)))?;
        let candidate = candidates.swap_remove(best);
        missing = without(&missing, std::iter::once(&candidate));
        chosen.push(candidate);
    }
    Some(chosen)
}

/// How much is missing when this one has gone: of each resource the part, so that all count alike.
#[allow(clippy::cast_precision_loss, reason = "which is farther does not hang on the last digits")]
fn distance(candidate: &Candidate<'_>, missing: &[Requirement]) -> f64 {
    let parts = missing.iter().map(|missing| {
        let left = missing.amount.saturating_sub(candidate.amount(&missing.resource)).max(0);
        (left as f64 / missing.amount as f64).powi(2)
    });
    parts.sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, priority: i32, resources: &Value) -> Guest {
        let spec = json!({"priority": priority, "containers": [{"name": "c", "resources": resources}]});
        let pod = json!({"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": spec});
        Guest { pod: Arc::new(serde_json::from_value(pod).expect("a pod")), is_static: false }
    }

    fn guaranteed(name: &str, memory: &str) -> Guest {
        pod(name, 0, &json!({"limits": {"cpu": "100m", "memory": memory}, "requests": {"cpu": "100m", "memory": memory}}))
    }

    fn burstable(name: &str, memory: &str) -> Guest {
        pod(name, 0, &json!({"requests": {"cpu": "100m", "memory": memory}}))
    }

    fn critical(memory: &str) -> Guest {
        pod("critical", 2_000_000_000, &json!({"requests": {"memory": memory}}))
    }

    fn place(most_pods: i64) -> Place {
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}}});
        Place { node: Arc::new(serde_json::from_value(node).expect("a node")), most_pods, listeners: Vec::new(), compares_tolerations: false }
    }

    fn names(guest: &Guest, others: &[Guest], most_pods: i64) -> Vec<String> {
        let (victims, _) = victims(guest, others, &place(most_pods));
        victims.iter().filter_map(|victim| victim.pod.metadata.name.clone()).collect()
    }

    #[test]
    fn nobody_goes_where_there_is_room_or_nobody_may() {
        let others = [guaranteed("g", "1Gi"), burstable("b", "1Gi")];
        assert_eq!(names(&critical("2Gi"), &others, 9), [""; 0]);
        assert_eq!(names(&burstable("plain", "4Gi"), &others, 9), [""; 0], "it is not critical");
        assert_eq!(names(&critical("5Gi"), &others, 9), [""; 0], "nobody could leave enough");
    }

    #[test]
    fn guaranteed_pods_go_only_for_what_burstable_ones_cannot_leave() {
        let others = [guaranteed("g", "2Gi"), burstable("b1", "1Gi"), burstable("b2", "1Gi")];
        assert_eq!(names(&critical("1Gi"), &others, 9).len(), 1);
        assert!(!names(&critical("2Gi"), &others, 9).contains(&"g".to_owned()));
        assert_eq!(names(&critical("4Gi"), &others, 9), ["b2", "b1", "g"]);
        let (_, resource) = victims(&critical("4Gi"), &others, &place(9));
        assert_eq!(resource.as_deref(), Some("memory"));
    }

    #[test]
    fn the_fewest_that_leave_enough_go() {
        let others = [burstable("small", "512Mi"), burstable("large", "3Gi"), burstable("middle", "512Mi")];
        assert_eq!(names(&critical("2Gi"), &others, 9), ["large"]);
        assert_eq!(names(&critical("512Mi"), &others, 9), ["middle"], "of those that leave enough the last that asks for least");
    }

    #[test]
    fn a_place_among_the_pods_is_left_by_a_best_effort_one() {
        let others = [burstable("b", "1Gi"), pod("idle", 0, &json!({}))];
        assert_eq!(names(&critical("1Gi"), &others, 2), ["idle"]);
    }

    #[test]
    fn critical_pods_make_room_for_more_important_ones_alone() {
        let cluster = pod("cluster", 2_000_000_000, &json!({"requests": {"memory": "4Gi"}}));
        let node = pod("node", 2_000_001_000, &json!({"requests": {"memory": "1Gi"}}));
        assert_eq!(names(&node, std::slice::from_ref(&cluster), 9), ["cluster"]);
        assert_eq!(names(&cluster, &[node], 9), [""; 0]);
    }
}

//! What preemption needs of a node's pods, side by side: it goes through the pods of hundreds of nodes for one decision.

use std::{cmp::Ordering, sync::Arc};

use jiff::Timestamp;

use super::placed_pod::PlacedPod;

/// What a pod would leave behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    pub priority: i32,
    /// When its kubelet took it in.
    pub started: Option<Timestamp>,
    /// In thousandths of a core.
    pub cpu: i64,
    /// In bytes.
    pub memory: i64,
    /// In bytes.
    pub ephemeral: i64,
    /// Whether it asks for more than that.
    pub has_scalars: bool,
    pub pod: Arc<PlacedPod>,
}

impl Footprint {
    fn of(pod: &Arc<PlacedPod>) -> Self {
        let requests = &pod.demand.requests;
        Footprint {
            priority: pod.priority,
            started: pod.started,
            cpu: requests.cpu,
            memory: requests.memory,
            ephemeral: requests.ephemeral,
            has_scalars: !requests.scalars.is_empty(),
            pod: pod.clone(),
        }
    }

    /// Those of pods, the most important ones first: by priority, then by age.
    pub fn by_importance<'a>(pods: impl Iterator<Item = &'a Arc<PlacedPod>>) -> Arc<[Footprint]> {
        let mut footprints: Vec<Footprint> = pods.map(Footprint::of).collect();
        footprints.sort_unstable_by(Footprint::more_important_first);
        footprints.into()
    }

    /// Pods have names of their own, so no two are equal.
    fn more_important_first(&self, other: &Footprint) -> Ordering {
        let by_priority = other.priority.cmp(&self.priority);
        by_priority.then_with(|| earlier_first(self.started, other.started)).then_with(|| self.pod.key().cmp(other.pod.key()))
    }
}

/// A pod that has not begun is the youngest.
pub fn earlier_first(one: Option<Timestamp>, other: Option<Timestamp>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.cmp(&other),
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, priority: i32, started: Value) -> Arc<PlacedPod> {
        let requests = json!({"cpu": "1", "memory": "2", "example.com/a": name.len().to_string()});
        let pod = json!({"metadata": {"name": name, "namespace": "n"}, "status": {"startTime": started},
            "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]}});
        Arc::new(PlacedPod::of(&serde_json::from_value::<Pod>(pod).expect("a pod")))
    }

    #[test]
    fn important_pods_come_first_and_of_those_the_eldest() {
        let pods = [
            pod("youngest", 1, json!(null)),
            pod("young", 1, json!("2026-01-02T00:00:00Z")),
            pod("also-old", 1, json!("2026-01-01T00:00:00Z")),
            pod("old", 1, json!("2026-01-01T00:00:00Z")),
            pod("important", 2, json!(null)),
        ];
        let footprints = Footprint::by_importance(pods.iter());
        let names: Vec<&str> = footprints.iter().map(|footprint| &*footprint.pod.key().name).collect();
        assert_eq!(names, ["important", "also-old", "old", "young", "youngest"]);
        let (first, requests) = (&footprints[0], &footprints[0].pod.demand.requests);
        assert_eq!((first.cpu, first.memory, first.ephemeral, first.has_scalars), (requests.cpu, requests.memory, requests.ephemeral, true));
    }
}

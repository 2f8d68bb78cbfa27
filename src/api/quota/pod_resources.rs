//! What a pod asks for in all: its containers, sidecars, init containers, pod-level resources and overhead.

use serde_json::Value;

use crate::{
    meta::{Object, amounts::Amounts},
    resources::tree::at,
};

/// Which of a container's two lists is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Requests,
    Limits,
}

/// How a pod is measured.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// A resized container counts with the most of what it asks for, was promised and has.
    pub from_status: bool,
    pub overhead: bool,
    /// Pod-level resources of these names stand in for the containers' sums.
    pub pod_level: fn(&str) -> bool,
}

/// What quota counts.
pub const FOR_QUOTA: Measure = Measure { from_status: true, overhead: true, pod_level: is_pod_level };

/// What limit ranges look at.
pub const FOR_LIMIT_RANGES: Measure = Measure { from_status: false, overhead: false, pod_level: |name| matches!(name, "cpu" | "memory") };

impl Side {
    fn field(self) -> &'static str {
        match self {
            Side::Requests => "requests",
            Side::Limits => "limits",
        }
    }
}

/// Resources that can be set for a pod as a whole.
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether the pod as a whole has resources of its own.
pub fn has_pod_level(pod: &Object) -> bool {
    [Side::Requests, Side::Limits].into_iter().any(|side| has_pod_level_side(pod, side))
}

fn has_pod_level_side(pod: &Object, side: Side) -> bool {
    let fields = pod.get(&["spec", "resources", side.field()]).and_then(Value::as_object);
    fields.is_some_and(|fields| fields.keys().any(|name| is_pod_level(name)))
}

/// All that a pod requests.
pub fn requests(pod: &Object, measure: Measure) -> Amounts {
    let mut total = containers(pod, Side::Requests, measure);
    if has_pod_level_side(pod, Side::Requests) {
        override_pod_level(&mut total, pod, Side::Requests, measure);
    }
    if measure.overhead {
        total.add(&overhead(pod));
    }
    total
}

/// The limits of a pod; overhead raises only limits that are set.
pub fn limits(pod: &Object, measure: Measure) -> Amounts {
    let mut total = containers(pod, Side::Limits, measure);
    if has_pod_level(pod) {
        override_pod_level(&mut total, pod, Side::Limits, measure);
    }
    if measure.overhead {
        let set = total.without_zeros();
        total.add(&overhead(pod).masked(&set));
    }
    total
}

fn overhead(pod: &Object) -> Amounts {
    Amounts::read(pod.get(&["spec", "overhead"]))
}

fn override_pod_level(total: &mut Amounts, pod: &Object, side: Side, measure: Measure) {
    for (name, amount) in Amounts::read(pod.get(&["spec", "resources", side.field()])).iter().filter(|(name, _)| (measure.pod_level)(name)) {
        total.set(name, amount);
    }
}

/// Containers together, or what the hungriest moment of initialisation takes if that is more.
fn containers(pod: &Object, side: Side, measure: Measure) -> Amounts {
    let mut total = Amounts::default();
    for container in pod.list(&["spec", "containers"]) {
        total.add(&effective(pod, container, "containerStatuses", side, measure.from_status));
    }
    let (mut sidecars, mut initial) = (Amounts::default(), Amounts::default());
    for container in pod.list(&["spec", "initContainers"]) {
        let is_sidecar = container["restartPolicy"] == "Always";
        let mut amounts = effective(pod, container, "initContainerStatuses", side, measure.from_status && is_sidecar);
        if is_sidecar {
            total.add(&amounts);
            sidecars.add(&amounts);
            amounts = sidecars.clone();
        } else {
            amounts.add(&sidecars);
        }
        initial.raise(&amounts);
    }
    total.raise(&initial);
    total
}

/// A container's amounts, in view of a resize that may be under way.
fn effective(pod: &Object, container: &Value, statuses: &str, side: Side, from_status: bool) -> Amounts {
    let wanted = Amounts::read(container.get("resources").and_then(|resources| resources.get(side.field())));
    if !from_status {
        return wanted;
    }
    let mut known = pod.list(&["status", statuses]).iter();
    let Some(status) = known.find(|status| status["name"] == container["name"] && status.get("resources").is_some()) else { return wanted };
    let mut amounts = Amounts::read(Some(at(status, &["resources", side.field()])));
    if side == Side::Requests {
        amounts.raise(&Amounts::read(status.get("allocatedResources")));
    }
    if !is_resize_infeasible(pod) {
        amounts.raise(&wanted);
    }
    amounts
}

fn is_resize_infeasible(pod: &Object) -> bool {
    let pending = pod.list(&["status", "conditions"]).iter().find(|condition| condition["type"] == "PodResizePending");
    pending.is_some_and(|condition| condition["reason"] == "Infeasible")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn init_containers_count_where_they_need_more_than_the_rest() {
        let pod = pod(json!({"spec": {
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m"}}}, {"name": "b", "resources": {"requests": {"cpu": "200m"}}}],
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "init", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
            ],
            "overhead": {"cpu": "10m"},
        }}));
        assert_eq!(requests(&pod, FOR_QUOTA).to_string(), "cpu=1060m,memory=1Gi");
        assert_eq!(requests(&pod, FOR_LIMIT_RANGES).to_string(), "cpu=1050m,memory=1Gi");
    }

    #[test]
    fn a_resize_counts_with_the_most_unless_it_is_infeasible() {
        let mut resized = pod(json!({
            "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [
                {"name": "a", "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "2"}}, "allocatedResources": {"cpu": "300m"}},
            ]},
        }));
        assert_eq!(requests(&resized, FOR_QUOTA).to_string(), "cpu=500m");
        assert_eq!(limits(&resized, FOR_QUOTA).to_string(), "cpu=2");
        resized.set(&["status", "conditions"], json!([{"type": "PodResizePending", "reason": "Infeasible"}]));
        assert_eq!(requests(&resized, FOR_QUOTA).to_string(), "cpu=300m");
    }

    #[test]
    fn resources_of_the_pod_stand_in_for_its_containers() {
        let pod = pod(json!({"spec": {
            "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}},
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"memory": "2Gi"}}}],
        }}));
        assert_eq!(requests(&pod, FOR_QUOTA).to_string(), "cpu=2,memory=1Mi");
        assert_eq!(limits(&pod, FOR_QUOTA).to_string(), "memory=1Gi");
    }
}

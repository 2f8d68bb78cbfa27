//! Amounts of node resources: what pods ask for, what nodes offer.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use smallvec::SmallVec;
use troupe_api::meta::quantity::Quantity;

/// What a container without requests counts as when nodes are scored (upstream's `DefaultMilliCPURequest`).
const NONZERO_CPU: i64 = 100;
/// Likewise for memory: 200 MB.
const NONZERO_MEMORY: i64 = 200 * 1024 * 1024;

/// A vector of resources: CPU in thousandths of a core, memory and ephemeral storage in bytes, others in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral: i64,
    pub scalars: SmallVec<[(String, i64); 1]>,
}

impl Resources {
    /// Reads a resource list (requests, allocatable). `pods` is not part of the vector.
    pub fn from_list(list: Option<&BTreeMap<String, ApiQuantity>>) -> Self {
        let mut resources = Resources::default();
        for (name, quantity) in list.into_iter().flatten() {
            // Validation let only well-formed quantities in; a foreign one counts as nothing.
            let Ok(quantity) = Quantity::parse(&quantity.0) else { continue };
            match name.as_str() {
                "cpu" => resources.cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral = quantity.value(),
                "pods" => {}
                name => resources.scalars.push((name.to_owned(), quantity.value())),
            }
        }
        resources
    }

    /// The amount of an extended resource.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.iter().find(|(known, _)| known == name).map_or(0, |(_, amount)| *amount)
    }

    /// The amount of any resource, by its name.
    pub fn amount(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral,
            name => self.scalar(name),
        }
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    /// Whether an amount is the largest number, beyond which nothing is counted.
    pub fn is_full(&self) -> bool {
        let mut amounts = [self.cpu, self.memory, self.ephemeral].into_iter().chain(self.scalars.iter().map(|(_, amount)| *amount));
        amounts.any(|amount| amount == i64::MAX)
    }

    /// Raises each amount to at least the other's.
    pub fn raise_to(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Resources, with: impl Fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral = with(self.ephemeral, other.ephemeral);
        for (name, amount) in &other.scalars {
            match self.scalars.iter_mut().find(|(known, _)| known == name) {
                Some((_, mine)) => *mine = with(*mine, *amount),
                None => self.scalars.push((name.clone(), with(0, *amount))),
            }
        }
    }
}

/// What a pod takes in all: the sum of its containers and sidecars, or the largest init container beside the
/// sidecars started before it, plus overhead (KEP-753, `resource.PodRequests`). A container that is being resized takes the most of
/// what it asks for, was allocated and has (KEP-1287).
pub fn pod_requests(pod: &Pod) -> Resources {
    let resizing = Resizing::of(pod);
    requests_with(pod, &resizing, |container, status| resizing.requests(list_of(container), status))
}

/// The same by the pod's spec alone.
pub fn specified_requests(pod: &Pod) -> Resources {
    requests_with(pod, &Resizing::NONE, |container, _| Resources::from_list(list_of(container)))
}

/// What a pod takes with upstream's defaults for containers that ask for no CPU or memory; used for scoring only.
pub fn nonzero_pod_requests(pod: &Pod) -> Resources {
    let resizing = Resizing::of(pod);
    requests_with(pod, &resizing, |container, status| {
        let mut resources = resizing.requests(list_of(container), status);
        let asks = |name: &str| list_of(container).is_some_and(|list| list.contains_key(name));
        if !asks("cpu") {
            resources.cpu = resources.cpu.max(NONZERO_CPU);
        }
        if !asks("memory") {
            resources.memory = resources.memory.max(NONZERO_MEMORY);
        }
        resources
    })
}

fn list_of(container: &Container) -> Option<&BTreeMap<String, ApiQuantity>> {
    container.resources.as_ref()?.requests.as_ref()
}

/// What a pod's status says of sizes.
#[derive(Clone, Copy)]
struct Resizing<'a> {
    status: Option<&'a PodStatus>,
    /// The desired size will never be had: it does not count.
    infeasible: bool,
}

impl<'a> Resizing<'a> {
    const NONE: Resizing<'static> = Resizing { status: None, infeasible: false };

    fn of(pod: &'a Pod) -> Self {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let pending = conditions.into_iter().find(|condition| condition.type_ == "PodResizePending");
        Resizing { status, infeasible: pending.is_some_and(|pending| pending.reason.as_deref() == Some("Infeasible")) }
    }

    fn container(&self, name: &str, init: bool) -> Option<&'a ContainerStatus> {
        let status = self.status?;
        let list = if init { &status.init_container_statuses } else { &status.container_statuses };
        list.iter().flatten().find(|status| status.name == name)
    }

    /// The most of what is asked for, allocated and had.
    fn most(&self, asked: Resources, had: Option<&BTreeMap<String, ApiQuantity>>, allocated: Option<&BTreeMap<String, ApiQuantity>>) -> Resources {
        let mut most = Resources::from_list(had);
        most.raise_to(&Resources::from_list(allocated));
        if !self.infeasible {
            most.raise_to(&asked);
        }
        most
    }

    fn requests(&self, asked: Option<&BTreeMap<String, ApiQuantity>>, status: Option<&ContainerStatus>) -> Resources {
        let asked = Resources::from_list(asked);
        match status.and_then(|status| Some((status.resources.as_ref()?, status))) {
            Some((had, status)) => self.most(asked, had.requests.as_ref(), status.allocated_resources.as_ref()),
            None => asked,
        }
    }

    /// What the pod as a whole asks for.
    fn of_pod(&self, asked: &BTreeMap<String, ApiQuantity>) -> Resources {
        let wanted = Resources::from_list(Some(asked));
        match self.status.and_then(|status| Some((status.resources.as_ref()?, status))) {
            Some((had, status)) => self.most(wanted, had.requests.as_ref(), status.allocated_resources.as_ref()),
            None => wanted,
        }
    }
}

fn requests_with<'a>(
    pod: &'a Pod,
    resizing: &Resizing<'a>,
    container_requests: impl Fn(&'a Container, Option<&'a ContainerStatus>) -> Resources,
) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let mut total = containers_with(spec, resizing, container_requests);
    if let Some(pod_level) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let level = resizing.of_pod(pod_level);
        for (name, mine, theirs) in [("cpu", &mut total.cpu, level.cpu), ("memory", &mut total.memory, level.memory)] {
            if pod_level.contains_key(name) {
                *mine = theirs;
            }
        }
    }
    total.add(&Resources::from_list(spec.overhead.as_ref()));
    total
}

fn containers_with<'a>(
    spec: &'a PodSpec,
    resizing: &Resizing<'a>,
    requests: impl Fn(&'a Container, Option<&'a ContainerStatus>) -> Resources,
) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&requests(container, resizing.container(&container.name, false)));
    }
    let (mut sidecars, mut largest_init) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        // One that ends is gone before it could count for more.
        let wants = requests(container, resizing.container(&container.name, true).filter(|_| is_sidecar));
        let mut at_once = sidecars.clone();
        at_once.add(&wants);
        if is_sidecar {
            sidecars.add(&wants);
        }
        largest_init.raise_to(&at_once);
    }
    running.add(&sidecars);
    running.raise_to(&largest_init);
    running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resized(reason: &str) -> Pod {
        let size = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}});
        let status = |name: &str| {
            json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "resources": size("200m", "30Mi"), "allocatedResources": {"cpu": "300m", "memory": "10Mi"}})
        };
        serde_json::from_value(json!({
            "spec": {"initContainers": [{"name": "i", "resources": size("50m", "20Mi")},
                {"name": "s", "restartPolicy": "Always", "resources": size("1", "20Mi")}],
                "containers": [{"name": "c", "resources": size("500m", "20Mi")}]},
            "status": {"conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                "containerStatuses": [status("c")], "initContainerStatuses": [status("i"), status("s")]},
        }))
        .expect("a pod")
    }

    #[test]
    fn a_pod_that_is_resized_takes_the_most_of_what_it_asks_for_was_allocated_and_has() {
        let taken = |reason: &str| (pod_requests(&resized(reason)).cpu, pod_requests(&resized(reason)).memory >> 20);
        assert_eq!(taken("Deferred"), (1500, 60));
        assert_eq!(taken("Infeasible"), (600, 60));
        let specified = specified_requests(&resized("Infeasible"));
        assert_eq!((specified.cpu, specified.memory >> 20), (1500, 40));
    }

    #[test]
    fn pod_level_resources_that_shrink_count_until_they_have() {
        let mut pod: Pod = serde_json::from_value(json!({
            "spec": {"resources": {"requests": {"cpu": "1"}}, "containers": [{"name": "c"}]},
            "status": {"resources": {"requests": {"cpu": "3"}}, "allocatedResources": {"cpu": "2"}},
        }))
        .expect("a pod");
        assert_eq!(pod_requests(&pod).cpu, 3000);
        pod.status = None;
        assert_eq!(pod_requests(&pod).cpu, 1000);
    }
}

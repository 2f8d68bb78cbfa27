//! Amounts of node resources: what pods ask for, what nodes offer.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
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

/// What a pod asks for in all: the sum of its containers and sidecars, or the largest init container beside the
/// sidecars started before it, plus overhead (KEP-753, `resource.PodRequests`).
pub fn pod_requests(pod: &Pod) -> Resources {
    requests_with(pod, |_, requirements| Resources::from_list(requirements.and_then(|r| r.requests.as_ref())))
}

/// The same with upstream's defaults for containers that ask for no CPU or memory; used for scoring only.
pub fn nonzero_pod_requests(pod: &Pod) -> Resources {
    requests_with(pod, |_, requirements| {
        let requests = requirements.and_then(|r| r.requests.as_ref());
        let mut resources = Resources::from_list(requests);
        let asks = |name: &str| requests.is_some_and(|list| list.contains_key(name));
        if !asks("cpu") {
            resources.cpu = NONZERO_CPU;
        }
        if !asks("memory") {
            resources.memory = NONZERO_MEMORY;
        }
        resources
    })
}

fn requests_with(pod: &Pod, container_requests: impl Fn(&Container, Option<&ResourceRequirements>) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let mut total = containers_with(spec, container_requests);
    if let Some(pod_level) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let level = Resources::from_list(Some(pod_level));
        for (name, mine, theirs) in [("cpu", &mut total.cpu, level.cpu), ("memory", &mut total.memory, level.memory)] {
            if pod_level.contains_key(name) {
                *mine = theirs;
            }
        }
    }
    total.add(&Resources::from_list(spec.overhead.as_ref()));
    total
}

fn containers_with(spec: &PodSpec, requests: impl Fn(&Container, Option<&ResourceRequirements>) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&requests(container, container.resources.as_ref()));
    }
    let (mut sidecars, mut largest_init) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let wants = requests(container, container.resources.as_ref());
        let mut at_once = sidecars.clone();
        at_once.add(&wants);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&wants);
        }
        largest_init.raise_to(&at_once);
    }
    running.add(&sidecars);
    running.raise_to(&largest_init);
    running
}

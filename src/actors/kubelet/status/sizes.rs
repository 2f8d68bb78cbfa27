//! What containers and pods have of CPU and memory, as their status tells it (upstream's `convertToAPIContainerStatuses` and
//! `convertToAPIPodLevelResourcesStatus`): what is allocated, corrected by what the runtime and the pod's cgroup really hold.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use troupe_api::meta::quantity::Quantity;
use troupe_cri::{
    proto::LinuxContainerResources,
    quantity::milli_value,
    resources::{CPU_PERIOD, CpuTime},
};

use super::StatusInputs;
use crate::kubelet::{
    resize::Amounts,
    worker::observed::{ContainerView, RunState},
};

type List = BTreeMap<String, ApiQuantity>;

/// At or below these, in thousandths of a CPU, the kernel makes no difference: what is allocated is told.
const LEAST_LIMIT: i64 = 10;
const LEAST_REQUEST: i64 = 2;
const SHARES_PER_CPU: i64 = 1024;

/// What a container has.
pub(super) fn of_container(inputs: &StatusInputs<'_>, spec: &PodSpec, container: &Container, seen: &ContainerView) -> ResourceRequirements {
    let mut resources = container.resources.clone().unwrap_or_default();
    if seen.state != RunState::Running {
        return resources;
    }
    let set = inputs.actuated.and_then(|actuated| actuated.containers.get(&container.name)).copied();
    let has = match &seen.resources {
        Some(told) => reported(told, set.unwrap_or_else(|| Amounts::of(container, spec))),
        None => match set {
            Some(set) => set,
            None => return resources,
        },
    };
    if let Some(limits) = &mut resources.limits {
        correct(limits, "cpu", has.cpu_limit, LEAST_LIMIT);
        correct(limits, "memory", has.memory_limit, 0);
    }
    if let Some(requests) = &mut resources.requests {
        correct(requests, "cpu", has.cpu_request, LEAST_REQUEST);
        correct(requests, "memory", has.memory_request, 0);
    }
    resources
}

/// What a runtime reports where that is something else than it was told.
fn reported(told: &LinuxContainerResources, set: Amounts) -> Amounts {
    // One with another period tells what it makes of the limit.
    let expected = set.to_runtime(CpuTime::default());
    let mut has = set;
    if told.cpu_shares > 0 && told.cpu_shares != expected.cpu_shares {
        has.cpu_request = milli_of_shares(told.cpu_shares);
    }
    if told.cpu_quota > 0 && told.cpu_period > 0 && (told.cpu_quota, told.cpu_period) != (expected.cpu_quota, expected.cpu_period) {
        has.cpu_limit = told.cpu_quota.saturating_mul(1000) / told.cpu_period;
    }
    if told.memory_limit_in_bytes > 0 {
        has.memory_limit = told.memory_limit_in_bytes;
    }
    has
}

fn milli_of_shares(shares: i64) -> i64 {
    shares.saturating_mul(1000).saturating_add(SHARES_PER_CPU - 1) / SHARES_PER_CPU
}

/// Puts what is had in the place of what is allocated, unless both are the same however it is written.
fn correct(list: &mut List, name: &str, has: i64, least: i64) {
    let Some(allocated) = list.get_mut(name).filter(|_| has != 0) else { return };
    let known = amount(name, allocated);
    if known != has && (known > least || has > least) {
        *allocated = quantity(name, has);
    }
}

/// Thousandths of a CPU, or bytes.
fn amount(name: &str, quantity: &ApiQuantity) -> i64 {
    if name == "cpu" { milli_value(&quantity.0) } else { troupe_cri::quantity::value(&quantity.0) }
}

fn quantity(name: &str, amount: i64) -> ApiQuantity {
    let quantity = if name == "cpu" { Quantity::from_milli(amount) } else { Quantity::from_bytes(amount) };
    ApiQuantity(quantity.to_string())
}

/// What the pod as a whole has.
pub(super) fn of_pod(inputs: &StatusInputs<'_>, spec: &PodSpec) -> Option<ResourceRequirements> {
    let mut resources = spec.resources.clone().unwrap_or_default();
    let runs = inputs.pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let Some(has) = inputs.actuated.map(|actuated| actuated.pod).filter(|_| runs) else {
        resources.requests = allocated_to_pod(spec);
        resources.limits = present(together(spec, Side::Limits));
        return Some(resources);
    };
    let mut requests = resources.requests.take().unwrap_or_default();
    let mut limits = resources.limits.take().unwrap_or_default();
    put(&mut requests, "cpu", milli_of_shares(has.cpu_shares), LEAST_REQUEST);
    if !requests.contains_key("memory")
        && let Some(memory) = together(spec, Side::Requests).get("memory")
    {
        requests.insert("memory".into(), ApiQuantity(memory.to_string()));
    }
    put(&mut limits, "cpu", has.cpu_quota.saturating_mul(1000) / CPU_PERIOD, LEAST_LIMIT);
    put(&mut limits, "memory", has.memory, 0);
    Some(ResourceRequirements { requests: some(requests), limits: some(limits), ..resources })
}

/// Like [`correct`], also where nothing is allocated.
fn put(list: &mut List, name: &str, has: i64, least: i64) {
    match list.get(name) {
        Some(_) => correct(list, name, has, least),
        None if has > least => drop(list.insert(name.to_owned(), quantity(name, has))),
        None => {}
    }
}

fn some(list: List) -> Option<List> {
    (!list.is_empty()).then_some(list)
}

fn present(all: BTreeMap<String, Quantity>) -> Option<List> {
    some(all.into_iter().map(|(name, amount)| (name, ApiQuantity(amount.to_string()))).collect())
}

/// What is allocated to the pod in all: its requests.
pub(super) fn allocated_to_pod(spec: &PodSpec) -> Option<List> {
    present(together(spec, Side::Requests))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Limits,
}

impl Side {
    fn of(self, resources: Option<&ResourceRequirements>) -> BTreeMap<String, Quantity> {
        let list = resources.and_then(|resources| if self == Side::Requests { resources.requests.as_ref() } else { resources.limits.as_ref() });
        list.into_iter().flatten().filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(&amount.0).ok()?))).collect()
    }
}

fn add(sum: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, amount) in more {
        *sum.entry(name.clone()).or_default() += *amount;
    }
}

/// What all containers have together, or the pod itself where that says something, with its overhead (`resource.PodRequests`,
/// `resource.PodLimits`).
fn together(spec: &PodSpec, side: Side) -> BTreeMap<String, Quantity> {
    let mut sum = BTreeMap::new();
    for container in &spec.containers {
        add(&mut sum, &side.of(container.resources.as_ref()));
    }
    let (mut sidecars, mut peak) = (BTreeMap::new(), BTreeMap::<String, Quantity>::new());
    for container in spec.init_containers.iter().flatten() {
        let own = side.of(container.resources.as_ref());
        let mut at_once = sidecars.clone();
        add(&mut at_once, &own);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &own);
            add(&mut sum, &own);
        }
        raise(&mut peak, at_once);
    }
    raise(&mut sum, peak);
    let whole = side.of(spec.resources.as_ref());
    sum.extend(whole.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-")));
    let overhead = Side::Requests.of(Some(&ResourceRequirements { requests: spec.overhead.clone(), ..Default::default() }));
    let counts = |name: &String| side == Side::Requests || sum.get(name).is_some_and(|amount| !amount.is_zero());
    let overhead: BTreeMap<_, _> = overhead.into_iter().filter(|(name, _)| counts(name)).collect();
    add(&mut sum, &overhead);
    sum
}

fn raise(most: &mut BTreeMap<String, Quantity>, other: BTreeMap<String, Quantity>) {
    for (name, amount) in other {
        let known = most.entry(name).or_insert(amount);
        *known = (*known).max(amount);
    }
}

//! Quality of service, and requests and limits as the kernel takes them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    proto,
    quantity::{milli_value, value},
};

/// The length of a CFS period in µs.
const CPU_PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// `system-node-critical`.
const NODE_CRITICAL: i32 = 2_000_001_000;
const GUARANTEED_OOM: i64 = -997;
const BEST_EFFORT_OOM: i64 = 1000;

/// What of the machine the translation needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineSize {
    pub cpus: i64,
    pub memory_bytes: i64,
}

fn requests(container: &Container) -> Option<&BTreeMap<String, Quantity>> {
    container.resources.as_ref()?.requests.as_ref()
}

fn limits(container: &Container) -> Option<&BTreeMap<String, Quantity>> {
    container.resources.as_ref()?.limits.as_ref()
}

/// A request, or the limit where there is no request (upstream's defaulting).
fn request_of<'a>(container: &'a Container, name: &str) -> Option<&'a Quantity> {
    requests(container).and_then(|map| map.get(name)).or_else(|| limits(container)?.get(name))
}

/// The containers that count: init containers and containers.
fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn positive(resources: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    resources?.get(name).map(|quantity| milli_value(&quantity.0)).filter(|milli| *milli > 0)
}

/// The pod's QoS class: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Pod) -> &'static str {
    if let Some(class) = pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        return match class {
            "Guaranteed" => "Guaranteed",
            "BestEffort" => "BestEffort",
            _ => "Burstable",
        };
    }
    let Some(spec) = &pod.spec else { return "BestEffort" };
    match &spec.resources {
        Some(resources) => class_of([resources].into_iter()),
        None => {
            let empty = ResourceRequirements::default();
            let all: Vec<_> = all_containers(spec).map(|container| container.resources.clone().unwrap_or_else(|| empty.clone())).collect();
            class_of(all.iter())
        }
    }
}

fn class_of<'a>(all: impl Iterator<Item = &'a ResourceRequirements>) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        let (requests, limits) = (resources.requests.as_ref(), resources.limits.as_ref());
        for name in ["cpu", "memory"] {
            let (request, limit) = (positive(requests, name), positive(limits, name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// CPU shares of a request in thousandths of a CPU.
pub fn cpu_shares(milli: i64) -> i64 {
    (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// CFS quota in µs per period of 100 ms; 0 means unlimited.
pub fn cpu_quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * CPU_PERIOD / 1000).max(MIN_QUOTA) }
}

/// How readily the kernel kills a container's processes when memory is short.
pub fn oom_score_adj(pod: &Pod, container: &Container, machine: MachineSize) -> i64 {
    let node_critical = pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= NODE_CRITICAL);
    match qos_class(pod) {
        _ if node_critical => GUARANTEED_OOM,
        "Guaranteed" => GUARANTEED_OOM,
        "BestEffort" => BEST_EFFORT_OOM,
        _ => {
            let request = request_of(container, "memory").map_or(0, |quantity| value(&quantity.0));
            let score = 1000 - 1000 * request / machine.memory_bytes.max(1);
            // Burstable containers die before guaranteed ones and after best-effort ones.
            if score < 1000 + GUARANTEED_OOM { 1000 + GUARANTEED_OOM } else { score.min(999) }
        }
    }
}

/// Requests and limits of one container.
pub fn container_resources(pod: &Pod, container: &Container, machine: MachineSize) -> proto::LinuxContainerResources {
    let milli = |quantity: Option<&Quantity>| quantity.map_or(0, |quantity| milli_value(&quantity.0));
    let cpu_limit = milli(limits(container).and_then(|map| map.get("cpu")));
    let memory_limit = limits(container).and_then(|map| map.get("memory")).map_or(0, |quantity| value(&quantity.0));
    proto::LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: cpu_quota(cpu_limit),
        cpu_shares: cpu_shares(milli(request_of(container, "cpu"))),
        memory_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score_adj(pod, container, machine),
        hugepage_limits: hugepages(container),
        ..Default::default()
    }
}

fn hugepages(container: &Container) -> Vec<proto::HugepageLimit> {
    let pages = limits(container).into_iter().flatten().filter_map(|(name, quantity)| {
        let size = name.strip_prefix("hugepages-")?;
        let page_size = size.replace("Mi", "MB").replace("Gi", "GB").replace("Ki", "KB");
        Some(proto::HugepageLimit { page_size, limit: value(&quantity.0).unsigned_abs() })
    });
    pages.collect()
}

/// What the whole pod may use, for the sandbox's config: the sum over containers, unlimited where one is.
pub fn pod_resources(spec: &PodSpec) -> proto::LinuxContainerResources {
    let (mut cpu_request, mut cpu_limit, mut memory_limit) = (0, Some(0), Some(0));
    for container in &spec.containers {
        let limit = |name: &str| limits(container).and_then(|map| map.get(name));
        cpu_request += request_of(container, "cpu").map_or(0, |quantity| milli_value(&quantity.0));
        cpu_limit = cpu_limit.zip(limit("cpu")).map(|(sum, quantity)| sum + milli_value(&quantity.0));
        memory_limit = memory_limit.zip(limit("memory")).map(|(sum, quantity)| sum + value(&quantity.0));
    }
    proto::LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: cpu_quota(cpu_limit.unwrap_or(0)),
        cpu_shares: cpu_shares(cpu_request),
        memory_limit_in_bytes: memory_limit.unwrap_or(0),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: serde_json::Value) -> Pod {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn equal_requests_and_limits_make_a_pod_guaranteed() {
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        assert_eq!(qos_class(&pod(json!({"limits": {"cpu": "1", "memory": "1Gi"}}))), "Guaranteed");
        assert_eq!(qos_class(&pod(json!({"limits": {"cpu": "1"}}))), "Burstable");
    }

    #[test]
    fn requests_become_shares_and_limits_become_quota() {
        let pod = pod(json!({"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "2Gi"}}));
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let got = container_resources(&pod, container, MachineSize { cpus: 2, memory_bytes: 4 << 30 });
        assert_eq!((got.cpu_shares, got.cpu_quota, got.memory_limit_in_bytes, got.oom_score_adj), (256, 50_000, 2 << 30, 750));
    }

    #[test]
    fn a_container_without_requests_gets_the_least_share() {
        let pod = pod(json!({}));
        let got = container_resources(&pod, &pod.spec.as_ref().expect("a spec").containers[0], MachineSize { cpus: 1, memory_bytes: 1 });
        assert_eq!((got.cpu_shares, got.cpu_quota, got.oom_score_adj), (2, 0, 1000));
    }
}

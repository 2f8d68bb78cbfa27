//! Quality of service, and requests and limits as the kernel takes them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    memory_rules::MemoryRules,
    proto,
    quantity::{milli_value, value},
};

/// The length of a CFS period in µs.
pub const CPU_PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// `system-node-critical`.
const NODE_CRITICAL: i32 = 2_000_001_000;
const GUARANTEED_OOM: i64 = -997;
const BEST_EFFORT_OOM: i64 = 1000;
/// In thousandths of the machine's memory.
const AHEAD_OF_DAEMONS: i64 = 100;

/// What of the machine the translation needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineSize {
    pub cpus: i64,
    pub memory_bytes: i64,
    /// Of the disk that holds what pods write.
    pub storage_bytes: i64,
    /// The daemons' own `oom_score_adj`.
    pub daemons_oom_score_adj: i64,
    /// How the kernel treats containers' memory.
    pub memory: MemoryRules,
}

impl MachineSize {
    /// The least score of a container: any goes before the daemons that all others depend on. Where these are as safe as
    /// upstream's kubelet, the least score is upstream's; where nothing may be made safer than others, containers are
    /// made less safe, by more than the daemons themselves weigh.
    fn least_oom_score_adj(self) -> i64 {
        if self.daemons_oom_score_adj < GUARANTEED_OOM {
            GUARANTEED_OOM
        } else {
            (self.daemons_oom_score_adj + AHEAD_OF_DAEMONS).min(BEST_EFFORT_OOM)
        }
    }
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

/// A container's limit, or its pod's where it has none of its own.
fn limit_of<'a>(pod: Option<&'a PodSpec>, container: &'a Container, name: &str) -> Option<&'a Quantity> {
    let of_pod = || pod?.resources.as_ref()?.limits.as_ref()?.get(name);
    limits(container).and_then(|map| map.get(name)).or_else(of_pod)
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
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// How limits of CPU time bind (the kubelet's `cpuCFSQuota` and `cpuCFSQuotaPeriod`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    /// Whether they do at all.
    pub is_limited: bool,
    /// How long a period is in µs, at the end of which quotas are there anew.
    pub period: i64,
}

impl Default for CpuTime {
    fn default() -> Self {
        CpuTime { is_limited: true, period: CPU_PERIOD }
    }
}

impl CpuTime {
    /// CFS quota in µs of a limit in thousandths of a CPU; 0 means unlimited.
    pub fn quota(self, milli: i64) -> i64 {
        if milli == 0 || !self.is_limited { 0 } else { (milli.saturating_mul(self.period) / 1000).max(MIN_QUOTA) }
    }

    /// The same of a quota for a period of [`CPU_PERIOD`].
    pub fn quota_of(self, usual: i64) -> i64 {
        if usual == 0 || !self.is_limited { 0 } else { (usual.saturating_mul(self.period) / CPU_PERIOD).max(MIN_QUOTA) }
    }

    /// The period as the runtime is told; 0 where there are no quotas.
    fn told_period(self) -> i64 {
        if self.is_limited { self.period } else { 0 }
    }

    /// What a container is bound to that may have so many thousandths of a CPU.
    pub fn bind(self, resources: &mut proto::LinuxContainerResources, milli: i64) {
        (resources.cpu_quota, resources.cpu_period) = (self.quota(milli), self.told_period());
    }
}

/// How readily the kernel kills a container's processes when memory is short.
pub fn oom_score_adj(pod: &Pod, container: &Container, machine: MachineSize) -> i64 {
    let node_critical = pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= NODE_CRITICAL);
    let score = match qos_class(pod) {
        _ if node_critical => GUARANTEED_OOM,
        "Guaranteed" => GUARANTEED_OOM,
        "BestEffort" => BEST_EFFORT_OOM,
        _ => {
            let request = request_of(container, "memory").map_or(0, |quantity| value(&quantity.0));
            let score = 1000_i64.saturating_sub(request.saturating_mul(1000) / machine.memory_bytes.max(1));
            // Burstable containers die before guaranteed ones and after best-effort ones.
            if score < 1000 + GUARANTEED_OOM { 1000 + GUARANTEED_OOM } else { score.min(999) }
        }
    };
    score.max(machine.least_oom_score_adj())
}

/// Requests and limits of one container. `hugepages` are the sizes of the machine's huge pages, such as `2MB`.
pub fn container_resources(
    pod: &Pod,
    container: &Container,
    machine: MachineSize,
    cpu_time: CpuTime,
    hugepages: &[String],
) -> proto::LinuxContainerResources {
    let milli = |quantity: Option<&Quantity>| quantity.map_or(0, |quantity| milli_value(&quantity.0));
    let spec = pod.spec.as_ref();
    let cpu_limit = milli(limit_of(spec, container, "cpu"));
    let memory_limit = limit_of(spec, container, "memory").map_or(0, |quantity| value(&quantity.0));
    let mut resources = proto::LinuxContainerResources {
        cpu_shares: cpu_shares(milli(request_of(container, "cpu"))),
        memory_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score_adj(pod, container, machine),
        hugepage_limits: hugepage_limits(spec, container, hugepages),
        ..Default::default()
    };
    cpu_time.bind(&mut resources, cpu_limit);
    machine.memory.bind((pod, qos_class(pod)), container, machine.memory_bytes, &mut resources);
    resources
}

/// For each size of pages what the container may have: none unless it asks.
fn hugepage_limits(pod: Option<&PodSpec>, container: &Container, sizes: &[String]) -> Vec<proto::HugepageLimit> {
    let limit = |page_size: &String| {
        let name = page_size.replace("KB", "Ki").replace("MB", "Mi").replace("GB", "Gi");
        let limit = limit_of(pod, container, &format!("hugepages-{name}")).map_or(0, |quantity| value(&quantity.0));
        proto::HugepageLimit { page_size: page_size.clone(), limit: limit.unsigned_abs() }
    };
    sizes.iter().map(limit).collect()
}

/// What the whole pod may use: its own limits, or what its containers may use together. Without limit is what one of them has
/// without limit.
pub fn pod_resources(spec: &PodSpec, cpu_time: CpuTime) -> proto::LinuxContainerResources {
    let own = spec.resources.as_ref();
    let cpu_request = match own.and_then(|own| own.requests.as_ref().or(own.limits.as_ref())?.get("cpu")) {
        Some(request) => milli_value(&request.0),
        None => together(spec, |container| request_of(container, "cpu").map_or(0, |quantity| milli_value(&quantity.0))),
    };
    let limit = |name: &str, number: fn(&str) -> i64| {
        let number = |quantity: &Quantity| number(&quantity.0);
        if let Some(limit) = own.and_then(|own| own.limits.as_ref()?.get(name)) {
            return number(limit).saturating_add(overhead(spec, name).map_or(0, number));
        }
        let of = |container: &Container| limits(container).and_then(|map| map.get(name)).map_or(0, number);
        if all_containers(spec).any(|container| of(container) <= 0) {
            0
        } else {
            together(spec, of).saturating_add(overhead(spec, name).map_or(0, number))
        }
    };
    let mut resources =
        proto::LinuxContainerResources { cpu_shares: cpu_shares(cpu_request), memory_limit_in_bytes: limit("memory", value), ..Default::default() };
    cpu_time.bind(&mut resources, limit("cpu", milli_value));
    resources
}

/// What the runtime is told of a pod's own cgroup of this size (bytes, µs in each [`CPU_PERIOD`], shares; 0 without limit): the part of its overhead,
/// and the rest.
pub fn sandbox_resources(
    spec: &PodSpec,
    (memory, cpu_quota, cpu_shares_of_pod): (i64, i64, i64),
    cpu_time: CpuTime,
) -> [proto::LinuxContainerResources; 2] {
    let mut part = proto::LinuxContainerResources::default();
    if spec.overhead.is_some() {
        let milli = overhead(spec, "cpu").map_or(0, |quantity| milli_value(&quantity.0));
        part.cpu_shares = cpu_shares(milli);
        part.memory_limit_in_bytes = overhead(spec, "memory").map_or(0, |quantity| value(&quantity.0));
        cpu_time.bind(&mut part, milli);
    }
    let without = |whole: i64, part: i64| if whole == 0 { 0 } else { whole.saturating_sub(part).max(0) };
    let rest = proto::LinuxContainerResources {
        cpu_shares: cpu_shares_of_pod,
        cpu_quota: without(cpu_time.quota_of(cpu_quota), part.cpu_quota),
        cpu_period: cpu_time.told_period(),
        memory_limit_in_bytes: without(memory, part.memory_limit_in_bytes),
        ..Default::default()
    };
    [part, rest]
}

fn overhead<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Quantity> {
    spec.overhead.as_ref()?.get(name)
}

/// What all containers have together at most: the main ones with the sidecars, or an init container with the sidecars before it.
fn together(spec: &PodSpec, of: impl Fn(&Container) -> i64) -> i64 {
    let (mut sidecars, mut most) = (0_i64, 0_i64);
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(of(container));
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars.saturating_add(of(container)));
        }
    }
    spec.containers.iter().map(of).fold(sidecars, i64::saturating_add).max(most)
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
    fn a_runtime_is_told_of_the_overhead_and_of_the_rest_of_a_pod() {
        let told = |overhead: serde_json::Value, cpu_time: CpuTime| {
            let spec: PodSpec = serde_json::from_value(json!({"containers": [], "overhead": overhead})).expect("a spec");
            sandbox_resources(&spec, (200, 50_000, 512), cpu_time).map(|part| (part.memory_limit_in_bytes, part.cpu_quota, part.cpu_shares))
        };
        let overhead = json!({"cpu": "100m", "memory": "30"});
        assert_eq!(told(overhead.clone(), CpuTime::default()), [(30, 10_000, 102), (170, 40_000, 512)]);
        assert_eq!(told(json!(null), CpuTime::default()), [(0, 0, 0), (200, 50_000, 512)]);
        assert_eq!(told(overhead, CpuTime { is_limited: false, ..CpuTime::default() }), [(30, 0, 102), (170, 0, 512)]);
        let unlimited = sandbox_resources(&PodSpec::default(), (0, 0, 2), CpuTime::default());
        assert_eq!((unlimited[1].memory_limit_in_bytes, unlimited[1].cpu_quota), (0, 0));
    }

    #[test]
    fn requests_become_shares_and_limits_become_quota() {
        let pod = pod(json!({"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "2Gi"}}));
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let got = container_resources(
            &pod,
            container,
            MachineSize { cpus: 2, memory_bytes: 4 << 30, daemons_oom_score_adj: 0, ..MachineSize::default() },
            CpuTime::default(),
            &[],
        );
        assert_eq!((got.cpu_shares, got.cpu_quota, got.memory_limit_in_bytes, got.oom_score_adj), (256, 50_000, 2 << 30, 750));
    }

    #[test]
    fn quotas_are_those_of_the_nodes_period_if_there_are_any() {
        let limited = pod(json!({"limits": {"cpu": "500m"}}));
        let bound = |cpu_time: CpuTime| {
            let spec = limited.spec.as_ref().expect("a spec");
            let container = container_resources(&limited, &spec.containers[0], MachineSize::default(), cpu_time, &[]);
            let whole = pod_resources(spec, cpu_time);
            assert_eq!((container.cpu_quota, container.cpu_period), (whole.cpu_quota, whole.cpu_period));
            (whole.cpu_quota, whole.cpu_period, cpu_time.quota_of(50_000))
        };
        assert_eq!(bound(CpuTime::default()), (50_000, 100_000, 50_000));
        assert_eq!(bound(CpuTime { period: 10_000, ..CpuTime::default() }), (5000, 10_000, 5000));
        assert_eq!(bound(CpuTime { period: 1000, ..CpuTime::default() }), (1000, 1000, 1000), "no quota is less than the kernel takes");
        assert_eq!(bound(CpuTime { is_limited: false, period: 10_000 }), (0, 0, 0));
    }

    #[test]
    fn the_largest_numbers_are_translated_to_the_largest_that_fit() {
        let machine = MachineSize { cpus: 2, memory_bytes: 4 << 30, daemons_oom_score_adj: -999, ..MachineSize::default() };
        for huge in ["9223372036854775807", "7Ei", "1e18", "9223372036854775807m"] {
            let pod = pod(json!({"requests": {"cpu": huge, "memory": huge}, "limits": {"cpu": huge, "memory": huge, "hugepages-2Mi": huge}}));
            let spec = PodSpec {
                overhead: Some([("cpu", huge), ("memory", huge)].map(|(name, amount)| (name.to_owned(), Quantity(amount.into()))).into()),
                ..pod.spec.clone().expect("a spec")
            };
            let got = container_resources(&pod, &spec.containers[0], machine, CpuTime::default(), &["2MB".to_owned()]);
            assert_eq!((got.cpu_shares, got.oom_score_adj), (MAX_SHARES, GUARANTEED_OOM), "{huge}");
            assert!(got.cpu_quota > 1 << 50 && got.memory_limit_in_bytes > 1 << 50, "{got:?}");
            let whole = pod_resources(&spec, CpuTime::default());
            assert!(whole.cpu_quota >= got.cpu_quota && whole.memory_limit_in_bytes >= got.memory_limit_in_bytes, "{whole:?}");
        }
        let burstable = pod(json!({"requests": {"memory": "9223372036854775807"}}));
        assert_eq!(oom_score_adj(&burstable, &burstable.spec.as_ref().expect("a spec").containers[0], machine), 3);
    }

    #[test]
    fn every_container_goes_before_the_daemons() {
        let guaranteed = pod(json!({"limits": {"cpu": "1", "memory": "1Gi"}}));
        let container = &guaranteed.spec.as_ref().expect("a spec").containers[0];
        let score = |daemons| {
            oom_score_adj(
                &guaranteed,
                container,
                MachineSize { cpus: 2, memory_bytes: 4 << 30, daemons_oom_score_adj: daemons, ..MachineSize::default() },
            )
        };
        assert_eq!([-999, -998, -997, 0, 950].map(score), [-997, -997, -897, 100, 1000]);
    }

    #[test]
    fn a_container_without_requests_gets_the_least_share() {
        let pod = pod(json!({}));
        let got = container_resources(
            &pod,
            &pod.spec.as_ref().expect("a spec").containers[0],
            MachineSize { cpus: 1, memory_bytes: 1, daemons_oom_score_adj: -999, ..MachineSize::default() },
            CpuTime::default(),
            &[],
        );
        assert_eq!((got.cpu_shares, got.cpu_quota, got.oom_score_adj), (2, 0, 1000));
    }

    #[test]
    fn huge_pages_are_had_by_those_who_ask() {
        let sizes = ["2MB".to_owned(), "1GB".to_owned()];
        let limits = |resources: serde_json::Value| {
            let pod = pod(resources);
            let container = &pod.spec.as_ref().expect("a spec").containers[0];
            let got = container_resources(&pod, container, MachineSize::default(), CpuTime::default(), &sizes);
            got.hugepage_limits.into_iter().map(|limit| limit.limit).collect::<Vec<_>>()
        };
        assert_eq!(limits(json!({})), [0, 0]);
        assert_eq!(limits(json!({"limits": {"hugepages-2Mi": "4Mi"}})), [4 << 20, 0]);
    }

    fn spec(spec: serde_json::Value) -> PodSpec {
        serde_json::from_value(spec).expect("a spec")
    }

    #[test]
    fn a_pods_own_limit_binds_the_pod_and_containers_without_one() {
        let limited = spec(json!({"resources": {"limits": {"memory": "100Mi", "cpu": "500m"}},
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"memory": "10Mi"}}}]}));
        let whole = pod_resources(&limited, CpuTime::default());
        assert_eq!((whole.memory_limit_in_bytes, whole.cpu_quota), (100 << 20, 50_000));
        let pod = Pod { spec: Some(limited.clone()), ..Pod::default() };
        let of = |index: usize| container_resources(&pod, &limited.containers[index], MachineSize::default(), CpuTime::default(), &[]);
        let memory = |index: usize| of(index).memory_limit_in_bytes;
        assert_eq!((memory(0), memory(1)), (100 << 20, 10 << 20));
    }

    #[test]
    fn a_pod_is_bound_by_what_its_containers_may_use_together() {
        let with = |init: &str, sidecar: &str, main: &str| {
            let limit = |memory: &str| json!({"limits": {"memory": memory}});
            let spec = spec(json!({
                "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": limit(sidecar)}, {"name": "i", "resources": limit(init)}],
                "containers": [{"name": "a", "resources": limit(main)}], "overhead": {"memory": "1Mi"}}));
            pod_resources(&spec, CpuTime::default()).memory_limit_in_bytes
        };
        assert_eq!(with("10Mi", "5Mi", "20Mi"), 26 << 20);
        assert_eq!(with("50Mi", "5Mi", "20Mi"), 56 << 20);
        assert_eq!(with("50Mi", "0", "20Mi"), 0, "one has no limit");
    }
}

//! What is counted of containers with CPUs and memory of their own, by upstream's names.

use std::time::Duration;

use troupe_api::metrics::{Counter, Family, Gauge, Histogram, exponential};

const MILLISECONDS: [f64; 15] = exponential(0.05, 2.0);

pub static CPU_REQUESTS: Family<Counter> =
    Family::new("kubelet_cpu_manager_pinning_requests_total", "The number of cpu core allocations which required pinning.", &[]);
pub static CPU_ERRORS: Family<Counter> =
    Family::new("kubelet_cpu_manager_pinning_errors_total", "The number of cpu core allocations which required pinning failed.", &[]);
pub static SHARED_CPUS: Family<Gauge> = Family::new(
    "kubelet_cpu_manager_shared_pool_size_millicores",
    "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.",
    &[],
);
pub static OWN_CPUS: Family<Gauge> = Family::new(
    "kubelet_cpu_manager_exclusive_cpu_allocation_count",
    "The total number of CPUs exclusively allocated to containers running on this node",
    &[],
);
pub static CPUS_OF_NODES: Family<Gauge> =
    Family::new("kubelet_cpu_manager_allocation_per_numa", "Number of CPUs allocated per NUMA node", &["numa_node"]);
pub static MEMORY_REQUESTS: Family<Counter> =
    Family::new("kubelet_memory_manager_pinning_requests_total", "The number of memory pages allocations which required pinning.", &[]);
pub static MEMORY_ERRORS: Family<Counter> =
    Family::new("kubelet_memory_manager_pinning_errors_total", "The number of memory pages allocations which required pinning that failed.", &[]);
pub static ADMISSIONS: Family<Counter> =
    Family::new("kubelet_topology_manager_admission_requests_total", "The number of admission requests where resources have to be aligned.", &[]);
pub static REFUSALS: Family<Counter> = Family::new(
    "kubelet_topology_manager_admission_errors_total",
    "The number of admission request failures where resources could not be aligned.",
    &[],
);
pub static DURATIONS: Family<Histogram> = Family::histogram(
    "kubelet_topology_manager_admission_duration_ms",
    "Duration in milliseconds to serve a pod admission request.",
    &[],
    &MILLISECONDS,
);

/// A container was to have CPUs of its own.
pub(super) fn pinned_cpus(succeeded: bool) {
    CPU_REQUESTS.with(&[]).increment();
    if !succeeded {
        CPU_ERRORS.with(&[]).increment();
    }
}

/// A container was to have memory of its own.
pub(super) fn pinned_memory(succeeded: bool) {
    MEMORY_REQUESTS.with(&[]).increment();
    if !succeeded {
        MEMORY_ERRORS.with(&[]).increment();
    }
}

/// A pod was to be let in, which took so long.
pub(super) fn admitted(succeeded: bool, took: Duration) {
    ADMISSIONS.with(&[]).increment();
    DURATIONS.with(&[]).observe(took.as_secs_f64() * 1e3);
    if !succeeded {
        REFUSALS.with(&[]).increment();
    }
}

/// So many CPUs are shared and so many are containers' own now, those by NUMA node.
pub(super) fn assigned(shared: usize, own: usize, by_node: &[(u32, usize)]) {
    SHARED_CPUS.with(&[]).set_count(shared * 1000);
    OWN_CPUS.with(&[]).set_count(own);
    for (node, count) in by_node {
        CPUS_OF_NODES.with(&[node.to_string().as_str()]).set_count(*count);
    }
}

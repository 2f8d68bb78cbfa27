//! `/metrics/resource`, which metrics servers read.

use bytes::Bytes;
use troupe_api::{
    metrics::{Text, render},
    node_pressure::{self, NodePressure},
};
use troupe_cri::names::PodIdentity;

use super::{
    sample::{ContainerUsage, Sample},
    swaps::Swaps,
};

/// The few figures that autoscaling and `kubectl top` need, and those of `pressure` as far as it is known. Without a sample it only tells
/// that there was an error.
pub fn resource(sample: Option<&Sample>, swaps: &Swaps, pressure: NodePressure) -> Bytes {
    let write = |text: &mut Text| {
        if let Some(sample) = sample {
            per_container(
                text,
                sample,
                "container_cpu_usage_seconds_total",
                "Cumulative cpu time consumed by the container in core-seconds",
                "counter",
                |c| c.cpu_nanoseconds.map(seconds),
            );
            per_container(text, sample, "container_memory_working_set_bytes", "Current working set of the container in bytes", "gauge", |c| {
                c.working_set.map(float)
            });
            let started = |c: &ContainerUsage| u64::try_from(c.created_at).ok().map(seconds);
            per_container(text, sample, "container_start_time_seconds", "Start time of the container since unix epoch in seconds", "gauge", started);
            let of = |c: &ContainerUsage| swaps.containers.get(&c.id).copied();
            let help = "Current amount of the container swap usage in bytes. Reported only on non-windows systems";
            per_container(text, sample, "container_swap_usage_bytes", help, "gauge", |c| of(c).map(|swap| float(swap.used)));
            let help = "Current amount of the container swap limit in bytes. Reported only on non-windows systems";
            per_container(text, sample, "container_swap_limit_bytes", help, "gauge", |c| of(c)?.limit.map(float));
            text.single(
                "node_cpu_usage_seconds_total",
                "Cumulative cpu time consumed by the node in core-seconds",
                "counter",
                seconds(sample.node.cpu_nanoseconds),
            );
            let swapped = sample.node.now.swap_size.saturating_sub(sample.node.now.swap_free);
            let help = "Current swap usage of the node in bytes. Reported only on non-windows systems";
            text.single("node_swap_usage_bytes", help, "gauge", float(swapped));
            text.single("node_memory_working_set_bytes", "Current working set of the node in bytes", "gauge", float(sample.node.working_set()));
            per_pod(text, sample, "pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "counter", |c| {
                c.cpu_nanoseconds.map(seconds)
            });
            per_pod(text, sample, "pod_memory_working_set_bytes", "Current working set of the pod in bytes", "gauge", |c| c.working_set.map(float));
            let help = "Current amount of the pod swap usage in bytes. Reported only on non-windows systems";
            text.family("pod_swap_usage_bytes", help, "gauge");
            for (pod, used) in sample.pods.keys().filter_map(|pod| Some((pod, *swaps.pods.get(&pod.uid)?))) {
                text.sample("pod_swap_usage_bytes", &[("namespace", &pod.namespace), ("pod", &pod.name)], float(used));
            }
        }
        let failed = f64::from(u8::from(sample.is_none()));
        text.single("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", "gauge", failed);
    };
    let write_pressure = |text: &mut Text| per_resource(text, pressure);
    render(&[&write, &write_pressure])
}

/// What the node's tasks waited for.
fn per_resource(text: &mut Text, pressure: NodePressure) {
    let mut told = pressure.told().peekable();
    if told.peek().is_some() {
        text.family(node_pressure::METRIC, "Share of the last minute in which tasks of the node waited for the resource in percent", "gauge");
    }
    for (resource, tasks, share) in told {
        text.sample(node_pressure::METRIC, &[(node_pressure::RESOURCE, resource), (node_pressure::TASKS, tasks)], f64::from(share) / 100.0);
    }
}

fn per_container(text: &mut Text, sample: &Sample, name: &str, help: &str, kind: &str, figure: impl Fn(&ContainerUsage) -> Option<f64>) {
    text.family(name, help, kind);
    for (pod, usage) in all(sample) {
        if let Some(value) = figure(usage) {
            text.sample(name, &[("container", &usage.name), ("namespace", &pod.namespace), ("pod", &pod.name)], value);
        }
    }
}

fn per_pod(text: &mut Text, sample: &Sample, name: &str, help: &str, kind: &str, figure: impl Fn(&ContainerUsage) -> Option<f64>) {
    text.family(name, help, kind);
    for (pod, containers) in &sample.pods {
        if let Some(value) = containers.iter().filter_map(&figure).reduce(|all, one| all + one) {
            text.sample(name, &[("namespace", &pod.namespace), ("pod", &pod.name)], value);
        }
    }
}

fn all(sample: &Sample) -> impl Iterator<Item = (&PodIdentity, &ContainerUsage)> {
    sample.pods.iter().flat_map(|(pod, containers)| containers.iter().map(move |container| (pod, container)))
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

#[allow(clippy::cast_precision_loss, reason = "figures of a machine stay below 2^52, or nobody minds their last digits")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

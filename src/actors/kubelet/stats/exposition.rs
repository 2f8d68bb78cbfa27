//! `/metrics/resource`, which metrics servers read, and `/metrics/cadvisor`.

use bytes::Bytes;
use troupe_api::metrics::{Text, render};
use troupe_cri::names::PodIdentity;

use super::sample::{ContainerUsage, Sample};

/// The few figures that autoscaling and `kubectl top` need. Without a sample it only tells that there was an error.
pub fn resource(sample: Option<&Sample>) -> Bytes {
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
            text.single(
                "node_cpu_usage_seconds_total",
                "Cumulative cpu time consumed by the node in core-seconds",
                "counter",
                seconds(sample.node.cpu_nanoseconds),
            );
            text.single("node_memory_working_set_bytes", "Current working set of the node in bytes", "gauge", float(sample.node.working_set()));
            per_pod(text, sample, "pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "counter", |c| {
                c.cpu_nanoseconds.map(seconds)
            });
            per_pod(text, sample, "pod_memory_working_set_bytes", "Current working set of the pod in bytes", "gauge", |c| c.working_set.map(float));
        }
        let failed = f64::from(u8::from(sample.is_none()));
        text.single("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", "gauge", failed);
    };
    render(&[&write])
}

/// Containers' figures under the names that cAdvisor gives them.
pub fn cadvisor(sample: &Sample) -> Bytes {
    let write = |text: &mut Text| {
        detailed(text, sample, "container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "counter", |c| {
            c.cpu_nanoseconds.map(seconds)
        });
        detailed(text, sample, "container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", "gauge", |c| {
            c.layer_bytes.map(float)
        });
        detailed(text, sample, "container_memory_rss", "Size of RSS in bytes.", "gauge", |c| c.rss.map(float));
        detailed(
            text,
            sample,
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            "gauge",
            |c| c.memory.map(float),
        );
        detailed(text, sample, "container_memory_working_set_bytes", "Current working set in bytes.", "gauge", |c| c.working_set.map(float));
        text.single("machine_cpu_cores", "Number of logical CPU cores.", "gauge", float(sample.node.cpus));
        text.single("machine_memory_bytes", "Amount of memory installed on the machine.", "gauge", float(sample.node.memory_bytes));
    };
    render(&[&write])
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

fn detailed(text: &mut Text, sample: &Sample, name: &str, help: &str, kind: &str, figure: impl Fn(&ContainerUsage) -> Option<f64>) {
    text.family(name, help, kind);
    for (pod, usage) in all(sample) {
        let labels = [
            ("container", usage.name.as_str()),
            ("id", &usage.id),
            ("image", &usage.image),
            ("name", &usage.id),
            ("namespace", &pod.namespace),
            ("pod", &pod.name),
        ];
        if let Some(value) = figure(usage) {
            text.sample(name, &labels, value);
        }
    }
}

fn all(sample: &Sample) -> impl Iterator<Item = (&PodIdentity, &ContainerUsage)> {
    sample.pods.iter().flat_map(|(pod, containers)| containers.iter().map(move |container| (pod, container)))
}

fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

#[allow(clippy::cast_precision_loss, reason = "figures of a machine stay below 2^52, or nobody minds their last digits")]
fn float(value: u64) -> f64 {
    value as f64
}

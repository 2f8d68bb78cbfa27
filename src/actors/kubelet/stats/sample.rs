//! One look at everything.

use std::{collections::BTreeMap, fs, path::Path};

use jiff::Timestamp;
use troupe_cri::{
    Runtime,
    names::{self, PodIdentity},
    proto::{self, ContainerFilter, ContainerState, ContainerStatsFilter},
    runtime::CriResult,
};

use super::pressure::Pressures;
use crate::kubelet::node::facts::{MachineFacts, Usage};

/// Clock ticks a second in procfs; the same on every Linux that runs us.
const TICKS: u64 = 100;

/// What one container uses. What its runtime does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    pub name: String,
    pub id: String,
    pub image: String,
    /// When it was made; nanoseconds since 1970.
    pub created_at: i64,
    pub cpu_nanoseconds: Option<u64>,
    pub nano_cores: Option<u64>,
    pub working_set: Option<u64>,
    pub memory: Option<u64>,
    pub rss: Option<u64>,
    pub page_faults: Option<u64>,
    pub major_page_faults: Option<u64>,
    pub layer_bytes: Option<u64>,
    pub layer_inodes: Option<u64>,
}

/// What the machine uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeUsage {
    pub cpus: u64,
    pub memory_bytes: u64,
    pub cpu_nanoseconds: u64,
    /// Seconds since 1970 at which the machine was booted.
    pub booted: i64,
    pub now: Usage,
    /// What all its processes waited for, also where cgroups are of the first version.
    pub pressures: Pressures,
}

/// Everything at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    pub taken: Timestamp,
    pub node: NodeUsage,
    pub pods: BTreeMap<PodIdentity, Vec<ContainerUsage>>,
}

impl Sample {
    /// Looks at the machine and asks the runtime.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn take(runtime: &dyn Runtime) -> CriResult<Self> {
        let stats = runtime.list_container_stats(ContainerStatsFilter::default()).await?;
        let containers = runtime.list_containers(ContainerFilter::default()).await?;
        Ok(Sample { taken: Timestamp::now(), node: NodeUsage::measure(), pods: by_pod(containers, stats) })
    }
}

/// Running containers with their stats, by pod.
fn by_pod(containers: Vec<proto::Container>, stats: Vec<proto::ContainerStats>) -> BTreeMap<PodIdentity, Vec<ContainerUsage>> {
    let id_of = |stats: &proto::ContainerStats| stats.attributes.as_ref().map(|attributes| attributes.id.clone()).unwrap_or_default();
    let mut stats: BTreeMap<String, proto::ContainerStats> = stats.into_iter().map(|stats| (id_of(&stats), stats)).collect();
    let mut pods: BTreeMap<PodIdentity, Vec<ContainerUsage>> = BTreeMap::new();
    for container in containers {
        let running = container.state == i32::from(ContainerState::ContainerRunning);
        let pod = PodIdentity::from_labels(|name| container.labels.get(name));
        if let (true, Some(pod), Some(stats)) = (running, pod, stats.remove(&container.id)) {
            pods.entry(pod).or_default().push(usage(container, &stats));
        }
    }
    pods
}

fn usage(container: proto::Container, stats: &proto::ContainerStats) -> ContainerUsage {
    let value = |found: &Option<proto::UInt64Value>| found.as_ref().map(|found| found.value);
    let (cpu, memory, layer) = (stats.cpu.as_ref(), stats.memory.as_ref(), stats.writable_layer.as_ref());
    ContainerUsage {
        name: container.labels.get(names::CONTAINER_NAME).cloned().unwrap_or_default(),
        id: container.id,
        image: container.image.map(named).unwrap_or_default(),
        created_at: container.created_at,
        cpu_nanoseconds: cpu.and_then(|cpu| value(&cpu.usage_core_nano_seconds)),
        nano_cores: cpu.and_then(|cpu| value(&cpu.usage_nano_cores)),
        working_set: memory.and_then(|memory| value(&memory.working_set_bytes)),
        memory: memory.and_then(|memory| value(&memory.usage_bytes)),
        rss: memory.and_then(|memory| value(&memory.rss_bytes)),
        page_faults: memory.and_then(|memory| value(&memory.page_faults)),
        major_page_faults: memory.and_then(|memory| value(&memory.major_page_faults)),
        layer_bytes: layer.and_then(|layer| value(&layer.used_bytes)),
        layer_inodes: layer.and_then(|layer| value(&layer.inodes_used)),
    }
}

/// An image as the pod names it, where the runtime knows that.
fn named(image: proto::ImageSpec) -> String {
    if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image }
}

impl NodeUsage {
    /// Measures the machine.
    pub fn measure() -> Self {
        let facts = MachineFacts::read();
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        NodeUsage {
            cpus: facts.cpus.unsigned_abs(),
            memory_bytes: facts.memory_bytes.unsigned_abs(),
            cpu_nanoseconds: busy_ticks(&stat) * (1_000_000_000 / TICKS),
            booted: stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0),
            now: Usage::measure(Path::new("/")),
            pressures: Pressures::parse(|resource| fs::read_to_string(format!("/proc/pressure/{resource}")).ok()),
        }
    }

    /// Memory that could not be taken back without harm.
    pub fn working_set(&self) -> u64 {
        self.memory_bytes.saturating_sub(self.now.memory_available)
    }
}

/// Ticks that all processors spent on work: neither idle nor waiting for disks.
fn busy_ticks(stat: &str) -> u64 {
    let Some(all) = stat.lines().find_map(|line| line.strip_prefix("cpu ")) else { return 0 };
    let ticks: Vec<u64> = all.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests count as user already.
    ticks.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_no_use() {
        assert_eq!(busy_ticks("cpu  10 1 5 1000 50 2 3 4 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n"), 25);
        assert_eq!(busy_ticks(""), 0);
    }
}

//! `/stats/summary`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use troupe_api::meta::time::format_time;
use troupe_cri::names::PodIdentity;

use super::{
    cgroup::CgroupUsage,
    detail::Detail,
    file_systems::{FileSystem, ImageFileSystem, PodLogs},
    interfaces::{Interfaces, Traffic},
    pressure::Pressure,
    rates::Rates,
    sample::{ContainerUsage, NodeUsage, Sample},
};
use crate::kubelet::csi::stats::VolumeUsage;

/// A pod's volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodVolume {
    /// Namespace and name of its claim.
    pub claim: Option<(String, String)>,
    pub usage: VolumeUsage,
}

/// Pods' volumes by the pods' uids.
pub type PodVolumes = BTreeMap<String, Vec<PodVolume>>;

/// What beside the runtime's figures is known.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub volumes: &'a PodVolumes,
    pub logs: &'a PodLogs,
    /// Of cgroups and network namespaces.
    pub details: &'a [Detail],
    /// The cgroup of all pods.
    pub pods: &'a str,
    /// The kubelet's, where it has one of its own.
    pub kubelet: Option<&'a str>,
    pub rates: &'a Rates,
    pub images: Option<ImageFileSystem>,
}

impl<'a> Known<'a> {
    fn of_group(&self, path: &str) -> Option<&'a Detail> {
        self.details.iter().find(|detail| detail.id.trim_matches('/') == path.trim_matches('/') && detail.name.is_empty())
    }

    /// Those of a pod: its own cgroup, its sandbox's and its containers'.
    fn of_pod(&self, pod: &PodIdentity) -> impl Iterator<Item = &'a Detail> {
        let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
        self.details.iter().filter(move |detail| detail.pod == name && detail.namespace == namespace)
    }
}

/// The summary as upstream's `stats/v1alpha1`.
pub fn summary(node: &str, sample: &Sample, known: Known<'_>) -> Value {
    let taken = format_time(sample.taken);
    let pods: Vec<Value> = sample.pods.iter().map(|(id, containers)| pod(id, containers, &known, (&sample.node, &taken))).collect();
    json!({"node": node_stats(node, sample, &known, &taken), "pods": pods})
}

fn node_stats(name: &str, Sample { node, taken: sampled, .. }: &Sample, known: &Known<'_>, taken: &str) -> Value {
    let sampled = *sampled;
    let now = &node.now;
    let machine = known.of_group("/");
    let usage = machine.map(|machine| machine.usage.clone()).unwrap_or_default();
    let images = known.images.map(|images| images.file_system.told(taken, (images.used, images.inodes_used))).map(present);
    let systems = [("kubelet", known.kubelet), ("pods", Some(known.pods))];
    let systems = systems.into_iter().filter_map(|(name, group)| Some(system(name, known.of_group(group?)?, known.rates, (node, sampled))));
    let systems: Vec<Value> = systems.collect();
    let nano_cores = known.rates.look("/", sampled, node.cpu_nanoseconds);
    present(json!({
        "nodeName": name,
        "systemContainers": (!systems.is_empty()).then_some(systems),
        "startTime": format_time(Timestamp::from_second(node.booted).unwrap_or_default()),
        "cpu": present(json!({"time": taken, "usageNanoCores": nano_cores, "usageCoreNanoSeconds": node.cpu_nanoseconds,
            "psi": usage.pressures.cpu.map(Pressure::told)})),
        "memory": present(json!({"time": taken, "availableBytes": now.memory_available, "usageBytes": node.working_set(),
            "workingSetBytes": node.working_set(), "rssBytes": usage.rss, "pageFaults": usage.page_faults, "majorPageFaults": usage.major_page_faults,
            "psi": usage.pressures.memory.map(Pressure::told)})),
        "io": io(&usage, taken),
        "swap": present(json!({"time": taken, "swapAvailableBytes": now.swap_free, "swapUsageBytes": now.swap_size.saturating_sub(now.swap_free)})),
        "network": machine.map(|machine| network(&machine.interfaces, taken)),
        "fs": {
            "time": taken, "availableBytes": now.disk_available, "capacityBytes": now.disk_size,
            "usedBytes": now.disk_size.saturating_sub(now.disk_available),
            "inodesFree": now.inodes_free, "inodes": now.inodes, "inodesUsed": now.inodes.saturating_sub(now.inodes_free),
        },
        "runtime": images.map(|images| json!({"imageFs": images, "containerFs": images})),
        "rlimit": {"time": taken, "maxpid": now.pids_limit, "curproc": now.pids},
    }))
}

/// A cgroup that is no container's.
fn system(name: &str, detail: &Detail, rates: &Rates, (node, sampled): (&NodeUsage, Timestamp)) -> Value {
    let started = detail.created_at.and_then(|created| i64::try_from(created).ok());
    let started = started.map_or_else(|| format_time(Timestamp::from_second(node.booted).unwrap_or_default()), time);
    let mut stats = of_cgroup(&detail.usage, &format_time(sampled));
    stats["name"] = name.into();
    stats["startTime"] = started.into();
    if let Some(rate) = detail.usage.cpu.and_then(|cpu| rates.look(&detail.id, sampled, cpu)) {
        stats["cpu"]["usageNanoCores"] = rate.into();
    }
    stats
}

/// Processor time, memory and what lies between, of a cgroup.
fn of_cgroup(usage: &CgroupUsage, taken: &str) -> Value {
    present(json!({
        "cpu": present(json!({"time": taken, "usageCoreNanoSeconds": usage.cpu, "psi": usage.pressures.cpu.map(Pressure::told)})),
        "memory": present(json!({"time": taken, "availableBytes": usage.memory_available(), "usageBytes": usage.memory,
            "workingSetBytes": usage.working_set(), "rssBytes": usage.rss, "pageFaults": usage.page_faults,
            "majorPageFaults": usage.major_page_faults, "psi": usage.pressures.memory.map(Pressure::told)})),
        "io": io(usage, taken),
        "swap": swap(usage, taken),
    }))
}

fn io(usage: &CgroupUsage, taken: &str) -> Option<Value> {
    usage.pressures.io.map(|pressure| json!({"time": taken, "psi": pressure.told()}))
}

fn swap(usage: &CgroupUsage, taken: &str) -> Option<Value> {
    usage.swap.map(|used| present(json!({"time": taken, "swapUsageBytes": used, "swapAvailableBytes": usage.swap_available()})))
}

/// All interfaces, and the one that upstream takes for a pod's own.
fn network(interfaces: &Interfaces, taken: &str) -> Value {
    let told = |(name, traffic): (&String, &Traffic)| {
        json!({"name": name, "rxBytes": traffic.received.bytes, "rxErrors": traffic.received.errors,
            "txBytes": traffic.transmitted.bytes, "txErrors": traffic.transmitted.errors})
    };
    let mut network = interfaces.get_key_value("eth0").map_or_else(|| json!({"name": ""}), told);
    network["time"] = taken.into();
    network["interfaces"] = interfaces.iter().map(told).collect::<Vec<_>>().into();
    network
}

fn pod(id: &PodIdentity, containers: &[ContainerUsage], known: &Known<'_>, (node, taken): (&NodeUsage, &str)) -> Value {
    let sum = |figure: fn(&ContainerUsage) -> Option<u64>| containers.iter().filter_map(figure).reduce(|all, one| all + one);
    let started = containers.iter().map(|container| container.created_at).min().unwrap_or(0);
    let volumes = known.volumes.get(&id.uid).map(Vec::as_slice).unwrap_or_default();
    let logs = known.logs.get(&id.uid);
    let volumes: Vec<_> = volumes.iter().map(|known| volume(known, taken)).collect();
    let details: Vec<&Detail> = known.of_pod(id).collect();
    let own = details.iter().find(|detail| detail.name.is_empty()).map(|detail| of_cgroup(&detail.usage, taken)).unwrap_or_default();
    let interfaces = details.iter().map(|detail| &detail.interfaces).find(|interfaces| !interfaces.is_empty());
    let processes = details.iter().map(|detail| detail.usage.processes).reduce(|all, one| all + one);
    let logged = |which: fn(&(u64, u64)) -> u64| logs.map(|logs| logs.values().map(which).sum::<u64>());
    let both = |one: Option<u64>, other: Option<u64>| one.map(|one| one + other.unwrap_or(0)).or(other);
    let stored = (both(sum(|c| c.layer_bytes), logged(|log| log.0)), both(sum(|c| c.layer_inodes), logged(|log| log.1)));
    let mut pod = json!({
        "podRef": {"name": id.name, "namespace": id.namespace, "uid": id.uid},
        "startTime": time(started),
        "containers": containers.iter().map(|usage| container(usage, (id, known), (node, taken))).collect::<Vec<_>>(),
        "cpu": over(&own["cpu"], json!({"time": taken, "usageNanoCores": sum(|c| c.nano_cores), "usageCoreNanoSeconds": sum(|c| c.cpu_nanoseconds)})),
        "memory": over(&own["memory"], json!({"time": taken, "usageBytes": sum(|c| c.memory), "workingSetBytes": sum(|c| c.working_set),
            "rssBytes": sum(|c| c.rss), "pageFaults": sum(|c| c.page_faults), "majorPageFaults": sum(|c| c.major_page_faults)})),
        "io": own["io"],
        "swap": own["swap"],
        "network": interfaces.map(|interfaces| network(interfaces, taken)),
        "process_stats": processes.map(|count| json!({"process_count": count})),
        "ephemeral-storage": present(of_node(node).told(taken, stored)),
    });
    if !volumes.is_empty() {
        pod["volume"] = volumes.into();
    }
    present(pod)
}

/// The file system that logs and volumes lie in.
fn of_node(node: &NodeUsage) -> FileSystem {
    let now = &node.now;
    FileSystem { capacity: now.disk_size, available: now.disk_available, inodes: now.inodes, inodes_free: now.inodes_free }
}

/// What a runtime tells, and what else a cgroup does.
fn over(group: &Value, told: Value) -> Value {
    let mut all = present(told);
    for (name, value) in group.as_object().into_iter().flatten() {
        if all.get(name).is_none() {
            all[name.as_str()] = value.clone();
        }
    }
    all
}

fn volume(known: &PodVolume, taken: &str) -> Value {
    let VolumeUsage { volume, available_bytes, capacity_bytes, used_bytes, inodes_free, inodes, inodes_used } = &known.usage;
    let claim = known.claim.as_ref().map(|(namespace, name)| json!({"name": name, "namespace": namespace}));
    present(json!({
        "name": volume, "time": taken, "pvcRef": claim, "availableBytes": available_bytes, "capacityBytes": capacity_bytes, "usedBytes": used_bytes,
        "inodesFree": inodes_free, "inodes": inodes, "inodesUsed": inodes_used,
    }))
}

fn container(usage: &ContainerUsage, (pod, known): (&PodIdentity, &Known<'_>), (node, taken): (&NodeUsage, &str)) -> Value {
    let detail = known.of_pod(pod).find(|detail| detail.container == usage.name);
    let own = detail.map(|detail| of_cgroup(&detail.usage, taken)).unwrap_or_default();
    let images = known.images.map_or_else(|| of_node(node), |images| images.file_system);
    let logs = known.logs.get(&pod.uid).and_then(|logs| logs.get(&usage.name)).map(|(bytes, inodes)| (Some(*bytes), Some(*inodes)));
    present(json!({
        "name": usage.name,
        "startTime": time(usage.created_at),
        "cpu": over(&own["cpu"], json!({"time": taken, "usageNanoCores": usage.nano_cores, "usageCoreNanoSeconds": usage.cpu_nanoseconds})),
        "memory": over(&own["memory"], json!({"time": taken, "usageBytes": usage.memory, "workingSetBytes": usage.working_set,
            "rssBytes": usage.rss, "pageFaults": usage.page_faults, "majorPageFaults": usage.major_page_faults})),
        "io": own["io"],
        "swap": own["swap"],
        "rootfs": present(images.told(taken, (usage.layer_bytes, usage.layer_inodes))),
        "logs": logs.map(|used| of_node(node).told(taken, used)),
    }))
}

fn time(nanoseconds: i64) -> String {
    format_time(Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default())
}

/// Without what is not known.
fn present(mut figures: Value) -> Value {
    if let Some(fields) = figures.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    figures
}

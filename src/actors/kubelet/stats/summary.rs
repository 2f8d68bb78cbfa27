//! `/stats/summary`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use troupe_api::meta::time::format_time;
use troupe_cri::names::PodIdentity;

use super::sample::{ContainerUsage, NodeUsage, Sample};
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

/// The summary as upstream's `stats/v1alpha1`.
pub fn summary(node: &str, sample: &Sample, volumes: &PodVolumes) -> Value {
    let taken = format_time(sample.taken);
    let pods: Vec<Value> =
        sample.pods.iter().map(|(id, containers)| pod(id, containers, volumes.get(&id.uid).map(Vec::as_slice).unwrap_or_default(), &taken)).collect();
    json!({"node": node_stats(node, &sample.node, &taken), "pods": pods})
}

fn node_stats(name: &str, node: &NodeUsage, taken: &str) -> Value {
    let now = &node.now;
    json!({
        "nodeName": name,
        "startTime": format_time(Timestamp::from_second(node.booted).unwrap_or_default()),
        "cpu": {"time": taken, "usageCoreNanoSeconds": node.cpu_nanoseconds},
        "memory": {"time": taken, "availableBytes": now.memory_available, "usageBytes": node.working_set(), "workingSetBytes": node.working_set()},
        "fs": {
            "time": taken, "availableBytes": now.disk_available, "capacityBytes": now.disk_size,
            "usedBytes": now.disk_size.saturating_sub(now.disk_available),
            "inodesFree": now.inodes_free, "inodes": now.inodes, "inodesUsed": now.inodes.saturating_sub(now.inodes_free),
        },
        "rlimit": {"time": taken, "maxpid": now.pids_limit, "curproc": now.pids},
    })
}

fn pod(id: &PodIdentity, containers: &[ContainerUsage], volumes: &[PodVolume], taken: &str) -> Value {
    let sum = |figure: fn(&ContainerUsage) -> Option<u64>| containers.iter().filter_map(figure).reduce(|all, one| all + one);
    let started = containers.iter().map(|container| container.created_at).min().unwrap_or(0);
    let volumes: Vec<_> = volumes.iter().map(|known| volume(known, taken)).collect();
    let mut pod = json!({
        "podRef": {"name": id.name, "namespace": id.namespace, "uid": id.uid},
        "startTime": time(started),
        "containers": containers.iter().map(|usage| container(usage, taken)).collect::<Vec<_>>(),
        "cpu": present(json!({"time": taken, "usageNanoCores": sum(|c| c.nano_cores), "usageCoreNanoSeconds": sum(|c| c.cpu_nanoseconds)})),
        "memory": present(json!({"time": taken, "usageBytes": sum(|c| c.memory), "workingSetBytes": sum(|c| c.working_set), "rssBytes": sum(|c| c.rss),
            "pageFaults": sum(|c| c.page_faults), "majorPageFaults": sum(|c| c.major_page_faults)})),
        "ephemeral-storage": present(json!({"time": taken, "usedBytes": sum(|c| c.layer_bytes), "inodesUsed": sum(|c| c.layer_inodes)})),
    });
    if !volumes.is_empty() {
        pod["volume"] = volumes.into();
    }
    pod
}

fn volume(known: &PodVolume, taken: &str) -> Value {
    let VolumeUsage { volume, available_bytes, capacity_bytes, used_bytes, inodes_free, inodes, inodes_used } = &known.usage;
    let claim = known.claim.as_ref().map(|(namespace, name)| json!({"name": name, "namespace": namespace}));
    present(json!({
        "name": volume, "time": taken, "pvcRef": claim, "availableBytes": available_bytes, "capacityBytes": capacity_bytes, "usedBytes": used_bytes,
        "inodesFree": inodes_free, "inodes": inodes, "inodesUsed": inodes_used,
    }))
}

fn container(usage: &ContainerUsage, taken: &str) -> Value {
    json!({
        "name": usage.name,
        "startTime": time(usage.created_at),
        "cpu": present(json!({"time": taken, "usageNanoCores": usage.nano_cores, "usageCoreNanoSeconds": usage.cpu_nanoseconds})),
        "memory": present(json!({"time": taken, "usageBytes": usage.memory, "workingSetBytes": usage.working_set, "rssBytes": usage.rss,
            "pageFaults": usage.page_faults, "majorPageFaults": usage.major_page_faults})),
        "rootfs": present(json!({"time": taken, "usedBytes": usage.layer_bytes, "inodesUsed": usage.layer_inodes})),
    })
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

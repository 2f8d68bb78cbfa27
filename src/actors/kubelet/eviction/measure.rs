//! Looking at disks and at what pods take of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;
use troupe_cri::{
    Runtime, names,
    names::PodIdentity,
    proto::{self, ContainerFilter, ContainerState, ContainerStateValue, ContainerStatsFilter},
    runtime::CriResult,
};

use super::{
    signals::{Reading, Readings},
    unnamed,
    usage::PodUse,
};
use crate::{
    files::{DiskUse, Tally, blocking, count_tree, mounts::layers},
    kubelet::{
        context::NodeContext,
        volumes::{Plugin, PodPaths, volumes},
    },
};

/// Reads the node's file systems; `None` when that of the kubelet's directory cannot be read.
pub fn readings(root: &Path, images: Option<&Path>) -> Option<Readings> {
    let node = reading(root)?;
    Some(Readings { node, images: images.and_then(reading).unwrap_or(node) })
}

fn reading(path: &Path) -> Option<Reading> {
    let found = statvfs(path).ok()?;
    Some(Reading {
        device: fs::metadata(path).ok()?.dev(),
        size: found.blocks() * found.fragment_size(),
        available: found.blocks_available() * found.fragment_size(),
        inodes: found.files(),
        inodes_free: found.files_free(),
    })
}

/// Where the runtime keeps images and layers, if it says so.
pub async fn image_directory(runtime: &dyn Runtime) -> Option<PathBuf> {
    let told = runtime.image_fs_info().await.ok()?;
    let place = told.into_iter().find_map(|told| told.fs_id).map(|id| PathBuf::from(id.mountpoint))?;
    place.is_absolute().then_some(place)
}

/// A running container and its layer.
#[derive(Clone, Debug)]
pub struct RunningContainer {
    name: String,
    sandbox: String,
    layer: Layer,
}

#[derive(Clone, Debug)]
enum Layer {
    /// A directory to be counted.
    At(PathBuf),
    /// What the runtime says that it takes.
    Told(DiskUse),
}

/// The running containers by their pods' uids.
///
/// # Errors
/// When the runtime does not answer.
pub async fn running(runtime: &dyn Runtime) -> CriResult<BTreeMap<String, Vec<RunningContainer>>> {
    let filter = ContainerFilter { state: Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() }), ..Default::default() };
    let containers = runtime.list_containers(filter).await?;
    let layers = blocking(|| fs::read("/proc/self/mountinfo").map(|table| layers(&table)).unwrap_or_default()).await;
    // Its own figures are up to ten seconds old.
    let told = if containers.iter().all(|container| layers.contains_key(&container.id)) {
        BTreeMap::new()
    } else {
        told(runtime.list_container_stats(ContainerStatsFilter::default()).await?)
    };
    let mut pods: BTreeMap<String, Vec<RunningContainer>> = BTreeMap::new();
    for container in containers {
        let Some(pod) = PodIdentity::from_labels(|name| container.labels.get(name)) else { continue };
        let layer = match layers.get(&container.id) {
            Some(place) => Layer::At(place.clone()),
            None => Layer::Told(told.get(&container.id).copied().unwrap_or_default()),
        };
        let name = container.labels.get(names::CONTAINER_NAME).cloned().unwrap_or_default();
        pods.entry(pod.uid).or_default().push(RunningContainer { name, sandbox: container.pod_sandbox_id, layer });
    }
    Ok(pods)
}

fn told(stats: Vec<proto::ContainerStats>) -> BTreeMap<String, DiskUse> {
    let one = |stats: proto::ContainerStats| {
        let layer = stats.writable_layer?;
        let value = |found: Option<proto::UInt64Value>| found.map_or(0, |found| found.value);
        let used = DiskUse { bytes: value(layer.used_bytes), inodes: value(layer.inodes_used), beyond: false };
        Some((stats.attributes?.id, used))
    };
    stats.into_iter().filter_map(one).collect()
}

/// A part of what a pod takes.
#[derive(Clone, Debug)]
enum Part {
    Volume(String),
    Layer(String),
    Logs(String),
    Files,
}

/// A pod being counted. What was found so far can be asked for at any time.
pub struct Counting {
    uid: String,
    cgroup_parent: String,
    parts: Vec<(Part, PathBuf, Arc<Tally>)>,
    /// What is known without counting.
    known: Mutex<PodUse>,
}

impl Counting {
    /// Of a pod with these running containers, where the runtime keeps images in `images`.
    pub fn of(context: &NodeContext, pod: &Pod, running: &[RunningContainer], images: Option<&Path>) -> Self {
        let id = PodIdentity::of(pod);
        let paths = context.paths(&id.uid);
        let mut known = PodUse::default();
        let mut parts = volume_parts(&paths, pod);
        for container in running {
            match &container.layer {
                Layer::At(place) => parts.push((Part::Layer(container.name.clone()), place.clone())),
                Layer::Told(used) => known.containers.entry(container.name.clone()).or_default().layer = *used,
            }
        }
        let spec = pod.spec.as_ref();
        let containers = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let logs = id.log_directory(&context.log_root);
        parts.extend(containers.map(|container| (Part::Logs(container.name.clone()), logs.join(&container.name))));
        let kept = [paths.hosts_file(), paths.root().join("containers")];
        parts.extend(kept.map(|place| (Part::Files, place)));
        let sandboxes: BTreeSet<&str> = running.iter().map(|container| &*container.sandbox).collect();
        parts.extend(sandboxes.into_iter().filter_map(|id| Some((Part::Files, sandbox_files(images?, id)?))));
        let parts = parts.into_iter().map(|(part, place)| (part, place, Arc::default())).collect();
        Counting { uid: id.uid, cgroup_parent: context.cgroup_parent.clone(), parts, known: Mutex::new(known) }
    }

    /// Counts.
    pub async fn run(&self) {
        let (parent, uid) = (self.cgroup_parent.clone(), self.uid.clone());
        let unnamed = blocking(move || unnamed::of_pod(&parent, &uid)).await;
        self.known.lock().unnamed = unnamed;
        for (_, place, tally) in &self.parts {
            if let Err(error) = count_tree(place, None, tally).await {
                tracing::warn!(%error, place = %place.display(), "not all of what a pod takes of the disk was counted");
            }
        }
    }

    /// What was found so far.
    pub fn sum(&self) -> PodUse {
        let mut used = self.known.lock().clone();
        for (part, _, tally) in &self.parts {
            let found = tally.sum();
            match part {
                Part::Volume(name) => *used.volumes.entry(name.clone()).or_default() += found,
                Part::Layer(name) => used.containers.entry(name.clone()).or_default().layer += found,
                Part::Logs(name) => used.containers.entry(name.clone()).or_default().logs += found,
                Part::Files => used.files += found,
            }
        }
        used
    }
}

/// Where containerd keeps the `/etc/hostname` and `/etc/resolv.conf` of a pod, which its containers may write.
fn sandbox_files(images: &Path, id: &str) -> Option<PathBuf> {
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| images.parent())?.map(|root| root.join("io.containerd.grpc.v1.cri/sandboxes").join(id))
}

/// The volumes that are directories on the node's disk: neither those in memory nor others' directories.
fn volume_parts(paths: &PodPaths, pod: &Pod) -> Vec<(Part, PathBuf)> {
    let part = |volume: &k8s_openapi::api::core::v1::Volume| {
        let plugin = Plugin::of(volume)?;
        let place = paths.volume(plugin.directory(), &volume.name);
        match plugin {
            Plugin::EmptyDir if volume.empty_dir.as_ref()?.medium.as_deref().unwrap_or_default().is_empty() => {
                Some((Part::Volume(volume.name.clone()), place))
            }
            Plugin::ConfigMap | Plugin::DownwardApi => Some((Part::Files, place)),
            _ => None,
        }
    };
    volumes(pod).iter().filter_map(part).collect()
}

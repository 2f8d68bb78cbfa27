//! A container's mounts: its volumes, and the files the kubelet manages.

use std::{collections::HashMap, path::PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use troupe_cri::{
    expand::expand,
    proto::{self, MountPropagation},
};

use super::{PodPaths, host_path, image, is_read_only, room::MOST_VOLUMES, volumes};

/// As long as the kernel takes paths.
const LONGEST_PATH: usize = 4096;

/// A part of a volume to be bound before the container is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubPath {
    /// The volume's name.
    pub name: String,
    pub volume: PathBuf,
    pub sub: String,
    pub target: PathBuf,
}

/// The mounts of a container, and the parts of volumes that have to be bound first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mounts {
    pub mounts: Vec<proto::Mount>,
    pub subpaths: Vec<SubPath>,
}

/// Plans the mounts of a container.
///
/// # Errors
/// As `CreateContainerConfigError` shows it.
pub fn mounts(paths: &PodPaths, pod: &Pod, container: &Container, env: &[(String, String)], attempt: u32) -> Result<Mounts, String> {
    let parts = parts_of_volumes(pod);
    if parts > MOST_VOLUMES {
        return Err(format!("the pod mounts {parts} parts of volumes, this node {MOST_VOLUMES} at most"));
    }
    let mut all = Mounts::default();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = volumes(pod).iter().find(|volume| volume.name == wanted.name);
        let volume = volume.ok_or_else(|| format!("cannot find volume \"{}\" to mount into container \"{}\"", wanted.name, container.name))?;
        if let Some(source) = &volume.image {
            let image_sub_path = sub_path(wanted, env)?.unwrap_or_default();
            all.mounts.push(proto::Mount { image: Some(image::spec(source)), image_sub_path, ..mount(wanted, volume, PathBuf::new()) });
            continue;
        }
        let mut source = host_path(paths, volume).ok_or_else(|| format!("volume \"{}\" is of a kind that is not supported", volume.name))?;
        if let Some(sub) = sub_path(wanted, env)? {
            let target = paths.subpath(&volume.name, &container.name, index);
            all.subpaths.push(SubPath { name: volume.name.clone(), volume: source, sub, target: target.clone() });
            source = target;
        }
        all.mounts.push(mount(wanted, volume, source));
    }
    let taken = |path: &str| container.volume_mounts.iter().flatten().any(|mount| mount.mount_path.trim_end_matches('/') == path);
    let managed =
        |path: &str, source: PathBuf| proto::Mount { container_path: path.to_owned(), host_path: source.display().to_string(), ..Default::default() };
    if !taken("/etc/hosts") {
        all.mounts.push(managed("/etc/hosts", paths.hosts_file()));
    }
    if let Some(path) = container.termination_message_path.as_deref().filter(|path| !path.is_empty()) {
        all.mounts.push(managed(path, paths.termination_file(&container.name, attempt)));
    }
    Ok(all)
}

/// How often a pod's containers mount a part of a volume.
fn parts_of_volumes(pod: &Pod) -> usize {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    let is_part = |mount: &&VolumeMount| [&mount.sub_path, &mount.sub_path_expr].into_iter().flatten().any(|sub| !sub.is_empty());
    mounts.filter(is_part).count()
}

fn sub_path(mount: &VolumeMount, env: &[(String, String)]) -> Result<Option<String>, String> {
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
        let values: HashMap<&str, &str> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let sub = expand(expression, |name| values.get(name).copied(), LONGEST_PATH).map_err(|_| "the subPathExpr is longer than any path")?;
        return if sub.contains("$(") { Err(format!("missing value for subPathExpr {expression:?}")) } else { Ok(Some(sub)) };
    }
    Ok(mount.sub_path.clone().filter(|text| !text.is_empty()))
}

fn mount(wanted: &VolumeMount, volume: &Volume, source: PathBuf) -> proto::Mount {
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    let container_path = if wanted.mount_path.starts_with('/') { wanted.mount_path.clone() } else { format!("/{}", wanted.mount_path) };
    proto::Mount {
        container_path,
        host_path: source.display().to_string(),
        readonly: wanted.read_only == Some(true) || is_read_only(volume),
        propagation: propagation.into(),
        ..Default::default()
    }
}

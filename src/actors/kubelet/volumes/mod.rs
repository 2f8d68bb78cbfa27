//! A pod's volumes: what is in them (pure), how files are swapped atomically, where they lie, how containers see them.

pub mod atomic;
pub mod block;
pub mod claim;
pub mod disk;
pub mod hostpath;
pub mod image;
pub mod medium;
pub mod mounts;
pub mod nfs;
pub mod ownership;
pub mod payload;
pub mod room;
pub mod stats;
pub mod subpath;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Pod, Volume};
use parking_lot::Mutex;
use thiserror::Error;

use super::csi::record;

/// Why a volume cannot be set up: the pod waits and a `FailedMount` event says so.
#[derive(Debug, Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
    SetUp { volume: String, reason: String },
    #[error("the pod has {count} volumes, this node sets up {} at most", room::MOST_VOLUMES)]
    TooMany { count: usize },
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
}

/// The volumes that were not there when they were set up. Containers that ran before have lost them.
#[derive(Debug, Default)]
pub struct Made(Mutex<BTreeSet<String>>);

impl Made {
    pub fn note(&self, volume: &str) {
        self.0.lock().insert(volume.to_owned());
    }

    /// Those noted since this was asked last.
    pub fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Where a pod's things lie on this node; upstream's layout.
#[derive(Clone, Debug)]
pub struct PodPaths {
    root: PathBuf,
}

impl PodPaths {
    pub fn new(kubelet_root: &Path, uid: &str) -> Self {
        PodPaths { root: kubelet_root.join("pods").join(uid) }
    }

    /// The pod's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The directory of a volume of a plugin such as `empty-dir`.
    pub fn volume(&self, plugin: &str, name: &str) -> PathBuf {
        self.volumes().join(format!("kubernetes.io~{plugin}")).join(name)
    }

    /// Where the device of a volume lies.
    pub fn device(&self, name: &str) -> PathBuf {
        self.root.join("volumeDevices").join(format!("kubernetes.io~{}", Plugin::Claim.directory())).join(name)
    }

    pub fn hosts_file(&self) -> PathBuf {
        self.root.join("etc-hosts")
    }

    /// The file in which one start of a container leaves its last words.
    pub fn termination_file(&self, container: &str, attempt: u32) -> PathBuf {
        self.root.join("containers").join(container).join(format!("termination-{attempt}"))
    }

    pub fn subpath(&self, volume: &str, container: &str, index: usize) -> PathBuf {
        self.root.join("volume-subpaths").join(volume).join(container).join(index.to_string())
    }
}

/// The kinds of volumes this node sets up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    EmptyDir,
    HostPath,
    ConfigMap,
    Secret,
    DownwardApi,
    Projected,
    /// Of a persistent volume claim, or one that is made for the pod.
    Claim,
    /// A CSI driver makes it for the pod.
    Csi,
    /// An NFS server exports it.
    Nfs,
    /// The runtime mounts an image.
    Image,
}

impl Plugin {
    /// The plugin of a volume; `None` for kinds that are not supported.
    pub fn of(volume: &Volume) -> Option<Self> {
        let kinds = [
            (volume.empty_dir.is_some(), Plugin::EmptyDir),
            (volume.host_path.is_some(), Plugin::HostPath),
            (volume.config_map.is_some(), Plugin::ConfigMap),
            (volume.secret.is_some(), Plugin::Secret),
            (volume.downward_api.is_some(), Plugin::DownwardApi),
            (volume.projected.is_some(), Plugin::Projected),
            (volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some(), Plugin::Claim),
            (volume.csi.is_some(), Plugin::Csi),
            (volume.nfs.is_some(), Plugin::Nfs),
            (volume.image.is_some(), Plugin::Image),
        ];
        kinds.into_iter().find_map(|(is, plugin)| is.then_some(plugin))
    }

    /// The directory name below `volumes/kubernetes.io~`.
    pub fn directory(self) -> &'static str {
        match self {
            Plugin::EmptyDir => "empty-dir",
            Plugin::HostPath => "host-path",
            Plugin::ConfigMap => "configmap",
            Plugin::Secret => "secret",
            Plugin::DownwardApi => "downward-api",
            Plugin::Projected => "projected",
            Plugin::Claim => "local-volume",
            Plugin::Csi => "csi",
            Plugin::Nfs => "nfs",
            Plugin::Image => "image",
        }
    }

    /// Whether the files are written by the kubelet, and never by containers.
    pub fn is_written(self) -> bool {
        matches!(self, Plugin::ConfigMap | Plugin::Secret | Plugin::DownwardApi | Plugin::Projected)
    }
}

/// Where a volume's content lies on the host.
pub fn host_path(paths: &PodPaths, volume: &Volume) -> Option<PathBuf> {
    match Plugin::of(volume)? {
        Plugin::HostPath => volume.host_path.as_ref().map(|source| PathBuf::from(&source.path)),
        plugin => {
            let may_be_driven = matches!(plugin, Plugin::Claim | Plugin::Csi);
            let driven = may_be_driven.then(|| record::files_of(paths.root(), &volume.name)).flatten();
            Some(driven.unwrap_or_else(|| paths.volume(plugin.directory(), &volume.name)))
        }
    }
}

/// The pod's volumes.
pub fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

/// Whether containers may only read the volume, whatever their mounts say.
pub fn is_read_only(volume: &Volume) -> bool {
    let claim = volume.persistent_volume_claim.as_ref();
    let driven = volume.csi.as_ref().is_some_and(|source| source.read_only == Some(true));
    let exported = volume.nfs.as_ref().is_some_and(|source| source.read_only == Some(true));
    Plugin::of(volume).is_some_and(Plugin::is_written)
        || claim.is_some_and(|claim| claim.read_only == Some(true))
        || driven
        || exported
        || volume.image.is_some()
}

/// The group that may use the pod's volumes.
pub fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

//! Setting volumes up on disk and taking them down. Blocking: call it off the arbiters.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use nix::mount::{MsFlags, mount};
use parking_lot::Mutex;
use troupe_cri::quantity;

use super::{
    Made, Plugin, PodPaths, VolumeError,
    atomic::{self, Owners},
    block,
    claim::{self, Source},
    fs_group, host_path, hostpath, image, is_read_only,
    medium::{self, Medium},
    nfs::{self, Export},
    ownership::{directory_mode, own_directory, shared_mode},
    payload::{PayloadInputs, payload, sole_user},
    room::{MOST_VOLUMES, NodeRoom, Room},
    volumes,
};
use crate::{
    files::{
        Directory,
        directory::proc_path,
        mounts::{is_mounted, unmount_below},
        place_and_name, remove_tree, remove_tree_blocking,
    },
    kubelet::{csi::record, resize::PodAmounts},
    storage::operations,
};

/// The kubelet's own directories are nobody else's.
const PRIVATE: u32 = 0o700;

/// Whoever holds it has the files of a volume in memory.
static WRITING: Mutex<()> = Mutex::new(());

/// Makes the pod's directories.
pub fn make_directories(paths: &PodPaths) -> Result<(), VolumeError> {
    for path in [paths.root().to_owned(), paths.volumes(), paths.root().join("containers")] {
        let made = Directory::make(&path, PRIVATE).and_then(|made| made.set_mode(PRIVATE));
        made.map_err(|source| VolumeError::Io { what: "make", path, source })?;
    }
    Ok(())
}

/// Sets all volumes of a pod up, or up to date, and notes those that were not there. Safe to repeat.
///
/// # Errors
/// The first failure; volumes after it are set up all the same.
pub fn set_up(paths: &PodPaths, inputs: &PayloadInputs<'_>, node: &NodeRoom, made: &Made, now: Timestamp) -> Result<(), VolumeError> {
    set_up_each(paths, inputs, volumes(inputs.pod).iter(), Beginning::First, (node, made), now)
}

/// The same with those that are in the kubelet's own directory, for a pod that runs: their content may have changed, or be gone.
///
/// # Errors
/// As [`set_up`].
pub fn refresh(paths: &PodPaths, inputs: &PayloadInputs<'_>, node: &NodeRoom, made: &Made, now: Timestamp) -> Result<(), VolumeError> {
    let own = volumes(inputs.pod).iter().filter(|volume| Plugin::of(volume) != Some(Plugin::HostPath));
    set_up_each(paths, inputs, own, Beginning::Again, (node, made), now)
}

/// Whether the pod needs its volumes to start, or runs with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    First,
    Again,
}

fn set_up_each<'a>(
    paths: &PodPaths,
    inputs: &PayloadInputs<'_>,
    all: impl Iterator<Item = &'a Volume>,
    beginning: Beginning,
    (node, made): (&NodeRoom, &Made),
    now: Timestamp,
) -> Result<(), VolumeError> {
    let count = volumes(inputs.pod).iter().filter(|volume| Plugin::of(volume) != Some(Plugin::HostPath)).count();
    if count > MOST_VOLUMES {
        return Err(VolumeError::TooMany { count });
    }
    let mut failure = None;
    let mut room = Room::new(node, inputs.pod.metadata.uid.as_deref().unwrap_or_default());
    for volume in all {
        let begun = Instant::now();
        let outcome = set_up_one(paths, inputs, volume, &mut room, now);
        // What a pod runs with and is as it was took no operation.
        if beginning == Beginning::First || !matches!(outcome, Ok(false)) {
            mounted(inputs, volume, outcome.is_ok(), begun.elapsed());
        }
        match outcome {
            Ok(true) => made.note(&volume.name),
            Ok(false) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    room.settle();
    failure.map_or(Ok(()), Err)
}

/// Counts a volume that was set up, or was not.
fn mounted(inputs: &PayloadInputs<'_>, volume: &Volume, is_done: bool, took: Duration) {
    let Some(plugin) = Plugin::of(volume).and_then(|plugin| mounted_by(plugin, inputs.claims.get(&volume.name))) else { return };
    let plugin = format!("kubernetes.io/{plugin}");
    operations::attempted(&plugin, "volume_mount", is_done, took);
    if is_done {
        operations::done(&plugin, "overall_volume_mount", took);
    }
}

/// The plugin by which a volume is mounted here, as upstream calls it behind `kubernetes.io/`; `None` of what drivers and the runtime do, and of
/// devices.
fn mounted_by(plugin: Plugin, claimed: Option<&Source>) -> Option<&'static str> {
    match plugin {
        Plugin::Csi | Plugin::Image => None,
        Plugin::Claim => match claimed? {
            Source::HostPath(_) => Some(Plugin::HostPath.directory()),
            Source::Local { .. } | Source::Made { .. } => Some(Plugin::Claim.directory()),
            Source::Nfs(_) => Some(Plugin::Nfs.directory()),
            Source::Device(_) | Source::Csi(_) => None,
        },
        plugin => Some(plugin.directory()),
    }
}

/// The volumes whose directory or content somebody took away. Cheap.
pub fn missing(paths: &PodPaths, pod: &Pod) -> Vec<String> {
    let is_missing = |volume: &&Volume| {
        let Some((plugin, path)) = Plugin::of(volume).zip(host_path(paths, volume)).filter(|(plugin, _)| !is_elsewhere(*plugin)) else {
            return false;
        };
        if matches!(plugin, Plugin::Claim | Plugin::Csi)
            && !block::is_device(pod, &volume.name)
            && record::files_of(paths.root(), &volume.name).is_some()
        {
            // Not every driver mounts what it puts there.
            return fs::symlink_metadata(&path).is_err();
        }
        if matches!(plugin, Plugin::Claim | Plugin::Nfs) {
            return !is_mounted(&claim_path(paths, pod, &volume.name, path)).unwrap_or(false);
        }
        let Ok(directory) = Directory::open(&path) else { return true };
        let unmounted = in_memory(plugin, volume) && !is_mounted(&path).unwrap_or(false);
        unmounted || (plugin.is_written() && atomic::is_empty(&directory))
    };
    volumes(pod).iter().filter(is_missing).map(|volume| volume.name.clone()).collect()
}

/// Where a claim's volume is bound: a device of its own lies apart from what has files.
fn claim_path(paths: &PodPaths, pod: &Pod, volume: &str, files: PathBuf) -> PathBuf {
    if block::is_device(pod, volume) { paths.device(volume) } else { files }
}

/// Sets one volume up; says whether its directory was not there.
fn set_up_one(paths: &PodPaths, inputs: &PayloadInputs<'_>, volume: &Volume, room: &mut Room<'_>, now: Timestamp) -> Result<bool, VolumeError> {
    let failed = |reason: String| VolumeError::SetUp { volume: volume.name.clone(), reason };
    let Some((plugin, path)) = Plugin::of(volume).zip(host_path(paths, volume)) else {
        return Err(failed("this kind of volume is not supported".into()));
    };
    let group = fs_group(inputs.pod);
    let done = match plugin {
        Plugin::HostPath => {
            let source = volume.host_path.as_ref().expect("its plugin is hostPath");
            return hostpath::check(source).map(|()| false).map_err(failed);
        }
        Plugin::Claim => match inputs.claims.get(&volume.name) {
            Some(source) => {
                let path = claim_path(paths, inputs.pod, &volume.name, path);
                return claim::set_up(&path, source, inputs.pod, is_read_only(volume)).map_err(failed);
            }
            // Nobody asked what it is, because it is there.
            None => return Ok(false),
        },
        // The runtime mounts it.
        Plugin::Image if image::is_mounted_by(inputs.runtime) => return Ok(false),
        Plugin::Image => return Err(failed(format!("image volumes are not supported with the container runtime {}", inputs.runtime))),
        // Its driver has done so.
        Plugin::Csi => return Ok(false),
        Plugin::Nfs => {
            let source = volume.nfs.as_ref().expect("its plugin is nfs");
            return nfs::set_up(&path, &Export::of_pod(source)).map_err(failed);
        }
        Plugin::EmptyDir => {
            let source = volume.empty_dir.as_ref().expect("its plugin is emptyDir");
            let files = match Medium::of(source, inputs.pod).map_err(failed)? {
                Medium::Disk => Files::OnDisk,
                Medium::Memory => Files::InMemory { bytes: Some(memory_size(inputs, source)) },
                Medium::HugePages(page) => Files::InHugePages { page },
            };
            make_volume(&path, shared_mode(group), group, files)
        }
        _ => {
            let _writing = WRITING.lock();
            room.memory = in_memory(plugin, volume);
            let files = payload(inputs, volume, room).map_err(failed)?;
            let user = volume.projected.as_ref().and_then(|_| sole_user(inputs.pod)).and_then(|user| u32::try_from(user).ok());
            let place = if room.memory { Files::InMemory { bytes: None } } else { Files::OnDisk };
            make_volume(&path, directory_mode(group), group, place).and_then(|made| {
                atomic::write(&Directory::open(&path)?, &files, Owners { user, group }, now)?;
                Ok(made)
            })
        }
    };
    done.map_err(|error| failed(error.to_string()))
}

/// What has nothing in the pod's directory.
fn is_elsewhere(plugin: Plugin) -> bool {
    matches!(plugin, Plugin::HostPath | Plugin::Image)
}

/// Secrets and tokens never touch the disk.
fn in_memory(plugin: Plugin, volume: &Volume) -> bool {
    let asked = || volume.empty_dir.as_ref().is_some_and(medium::is_mounted);
    matches!(plugin, Plugin::Secret | Plugin::Projected) || (plugin == Plugin::EmptyDir && asked())
}

/// Where the files of a volume are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    OnDisk,
    /// In a file system of so many bytes.
    InMemory {
        bytes: Option<i64>,
    },
    /// In one of pages of so many bytes.
    InHugePages {
        page: i64,
    },
}

/// The bytes of a volume in memory: the node's allocatable, or its pod, or its own limit, whichever is least (upstream's
/// `calculateEmptyDirMemorySize`).
pub(super) fn memory_size(inputs: &PayloadInputs<'_>, source: &EmptyDirVolumeSource) -> i64 {
    let node = inputs.machine.memory_bytes;
    let pod = inputs.pod.spec.as_ref().map(|spec| PodAmounts::of(inputs.pod, spec).memory);
    let own = source.size_limit.as_ref().map(|size| quantity::value(&size.0));
    [pod, own].into_iter().flatten().filter(|bytes| *bytes > 0).fold(node, i64::min)
}

/// Makes a volume's directory where it is missing; says whether it, or the file system in it, was. It appears with its mode and
/// owner, and nothing of what is there already changes: containers own that.
fn make_volume(path: &Path, mode: u32, group: Option<u32>, files: Files) -> io::Result<bool> {
    let (parent, name) = place_and_name(path)?;
    let place = Directory::make(parent, PRIVATE)?;
    let made = match place.open_dir(Path::new(name)) {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let unfinished = format!(".unfinished-{name}");
            remove_tree_blocking(&proc_path(&place).join(&unfinished))?;
            own_directory(&place.make_dir(&unfinished, PRIVATE)?, mode, group)?;
            place.rename(&unfinished, name)?;
            true
        }
        Err(error) => return Err(error),
    };
    if files == Files::OnDisk || (!made && is_mounted(path).unwrap_or(false)) {
        return Ok(made);
    }
    match files {
        Files::OnDisk => {}
        Files::InMemory { bytes } => mount_tmpfs(path, bytes, mode, group)?,
        Files::InHugePages { page } => mount_huge_pages(path, page, mode, group)?,
    }
    Ok(true)
}

fn mount_tmpfs(path: &Path, bytes: Option<i64>, mode: u32, group: Option<u32>) -> io::Result<()> {
    let size = bytes.map(|bytes| format!("size={bytes},")).unwrap_or_default();
    let group = group.map(|group| format!("gid={group},")).unwrap_or_default();
    // Upstream leaves the kernel its default, with which nobody removes what others made.
    let options = format!("{size}{group}mode={:o}", mode | 0o1000);
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).map_err(io::Error::from)
}

fn mount_huge_pages(path: &Path, page: i64, mode: u32, group: Option<u32>) -> io::Result<()> {
    let options = format!("pagesize={page}");
    mount(Some("nodev"), path, Some("hugetlbfs"), MsFlags::empty(), Some(options.as_str()))?;
    own_directory(&Directory::open(path)?, mode, group)
}

/// Unmounts all below the pod's directory and removes it, by descriptor: neither a mount nor a link leads out of it, and the depth
/// of what the pod wrote costs nothing. An interrupted removal goes on where it is begun again.
pub async fn tear_down(paths: &PodPaths) -> Result<(), VolumeError> {
    let root = paths.root().to_owned();
    let failed = |what: &'static str, path: &Path| {
        let path: PathBuf = path.to_owned();
        move |source| VolumeError::Io { what, path, source }
    };
    let below = root.clone();
    crate::files::blocking(move || unmount_below(&below)).await.map_err(failed("unmount below", &root))?;
    remove_tree(&root).await.map_err(failed("remove", &root))
}

/// Makes a directory of logs.
pub fn make_log_directory(path: &Path) -> Result<(), VolumeError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(path);
    made.map_err(|source| VolumeError::Io { what: "make", path: path.to_owned(), source })
}

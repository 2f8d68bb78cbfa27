//! Setting volumes up on disk and taking them down. Blocking: call it off the arbiters.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use troupe_cri::quantity;

use super::{
    Plugin, PodPaths, VolumeError, atomic, fs_group, host_path, ownership,
    payload::{PayloadInputs, payload, sole_user},
    volumes,
};

/// Makes the pod's directories.
pub fn make_directories(paths: &PodPaths) -> Result<(), VolumeError> {
    for path in [paths.root().to_owned(), paths.volumes(), paths.root().join("containers")] {
        fs::create_dir_all(&path).map_err(|source| VolumeError::Io { what: "make", path: path.clone(), source })?;
        let mode = fs::Permissions::from_mode(0o750);
        fs::set_permissions(&path, mode).map_err(|source| VolumeError::Io { what: "protect", path, source })?;
    }
    Ok(())
}

/// Sets all volumes of a pod up, or up to date. Safe to repeat.
pub fn set_up(paths: &PodPaths, inputs: &PayloadInputs<'_>, now: Timestamp) -> Result<(), VolumeError> {
    volumes(inputs.pod).iter().try_for_each(|volume| set_up_one(paths, inputs, volume, now))
}

/// Brings the volumes that the kubelet writes up to date; those are the ones that change while the pod runs.
pub fn refresh(paths: &PodPaths, inputs: &PayloadInputs<'_>, now: Timestamp) -> Result<(), VolumeError> {
    let written = volumes(inputs.pod).iter().filter(|volume| Plugin::of(volume).is_some_and(Plugin::is_written));
    written.into_iter().try_for_each(|volume| set_up_one(paths, inputs, volume, now))
}

fn set_up_one(paths: &PodPaths, inputs: &PayloadInputs<'_>, volume: &Volume, now: Timestamp) -> Result<(), VolumeError> {
    let failed = |reason: String| VolumeError::SetUp { volume: volume.name.clone(), reason };
    let Some((plugin, path)) = Plugin::of(volume).zip(host_path(paths, volume)) else {
        return Err(failed("this kind of volume is not supported".into()));
    };
    let done = match plugin {
        Plugin::HostPath => return check_host_path(volume.host_path.as_ref().expect("its plugin is hostPath")).map_err(failed),
        Plugin::EmptyDir => empty_dir(&path, volume.empty_dir.as_ref().expect("its plugin is emptyDir"), inputs.pod),
        _ => {
            let files = payload(inputs, volume).map_err(failed)?;
            let owner = volume.projected.as_ref().and_then(|_| sole_user(inputs.pod)).and_then(|user| u32::try_from(user).ok());
            let group = fs_group(inputs.pod);
            make_written(&path, plugin, group).and_then(|()| atomic::write(&path, &files, group, owner, now).map(drop))
        }
    };
    done.map_err(|error| failed(error.to_string()))
}

/// The directory of a written volume; secrets and tokens never touch the disk.
fn make_written(path: &Path, plugin: Plugin, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(if group.is_some() { 0o2775 } else { 0o755 }))?;
    if matches!(plugin, Plugin::Secret | Plugin::Projected) && !is_mount_point(path)? {
        mount_tmpfs(path, None, 0o755)?;
    }
    ownership::own_directories(path, group)
}

fn empty_dir(path: &Path, source: &EmptyDirVolumeSource, pod: &Pod) -> io::Result<()> {
    let fresh = !path.exists();
    fs::create_dir_all(path)?;
    if source.medium.as_deref() == Some("Memory") && !is_mount_point(path)? {
        mount_tmpfs(path, source.size_limit.as_ref().map(|size| quantity::value(&size.0)), 0o777)?;
    }
    if fresh {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    match fs_group(pod) {
        Some(group) => {
            let policy = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group_change_policy.as_deref());
            ownership::own_tree(path, group, !fresh || policy == Some("OnRootMismatch"))
        }
        None => Ok(()),
    }
}

fn mount_tmpfs(path: &Path, size: Option<i64>, mode: u32) -> io::Result<()> {
    let size = size.filter(|size| *size > 0).map(|size| format!("size={size},")).unwrap_or_default();
    let options = format!("{size}mode={mode:o}");
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).map_err(io::Error::from)
}

/// Whether something is mounted right at `path`.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let parent = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

fn check_host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let made = match kind {
        "DirectoryOrCreate" if !path.exists() => fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755))),
        "FileOrCreate" if !path.exists() => fs::File::create(path).map(drop),
        _ => Ok(()),
    };
    made.map_err(|error| format!("hostPath {}: {error}", source.path))?;
    let found = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let (holds, wanted) = match kind {
        "Directory" | "DirectoryOrCreate" => (found.is_some_and(|kind| kind.is_dir()), "a directory"),
        "File" | "FileOrCreate" => (found.is_some_and(|kind| kind.is_file()), "a file"),
        "Socket" => (found.is_some_and(|kind| kind.is_socket()), "a socket file"),
        "CharDevice" => (found.is_some_and(|kind| kind.is_char_device()), "a character device"),
        "BlockDevice" => (found.is_some_and(|kind| kind.is_block_device()), "a block device"),
        _ => (true, ""),
    };
    if holds { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {wanted}", source.path)) }
}

/// Unmounts all below the pod's directory and removes it. Never follows a mount or link out of it.
pub fn tear_down(paths: &PodPaths) -> Result<(), VolumeError> {
    let root = paths.root();
    for point in mounts_below(root).map_err(|source| VolumeError::Io { what: "find mounts below", path: root.to_owned(), source })? {
        match umount2(&point, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(VolumeError::Io { what: "unmount", path: point, source: error.into() }),
        }
    }
    match fs::remove_dir_all(root) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(VolumeError::Io { what: "remove", path: root.to_owned(), source }),
        _ => Ok(()),
    }
}

/// Mount points below a directory, the deepest first.
pub fn mounts_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(unescape(point)));
    let mut below: Vec<_> = points.filter(|point| point.starts_with(root)).collect();
    below.sort();
    below.reverse();
    Ok(below)
}

/// mountinfo writes spaces and the like as octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")].iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

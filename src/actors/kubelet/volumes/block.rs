//! Volumes that are block devices: given to containers as they are (`volumeMode: Block`), or with a file system on them, which is
//! made where there is none.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
    process::{Command, Output, Stdio},
};

use k8s_openapi::api::core::v1::{Container, Pod};
use nix::mount::{MsFlags, mount};
use troupe_cri::proto;

use super::{PodPaths, subpath};
use crate::files::{
    Directory,
    directory::proc_path,
    mounts::{is_mounted, unmount},
    place_and_name,
};

/// The file system that is made where a volume names none.
const DEFAULT_FILE_SYSTEM: &str = "ext4";
/// What `blkid` ends with when it finds nothing on a device.
const NOTHING_FOUND: i32 = 2;
/// What `fsck` ends with when errors are left.
const ERRORS_LEFT: i32 = 4;

/// Whether any container of a pod gets a volume as a device.
pub fn is_device(pod: &Pod, volume: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.flat_map(|container| container.volume_devices.iter().flatten()).any(|device| device.name == volume)
}

/// The devices of a container, which [`bind`] has put into the pod's directory.
///
/// # Errors
/// When one of them is not there.
pub fn devices(paths: &PodPaths, pod: &Pod, container: &Container) -> Result<Vec<proto::Device>, String> {
    let device = |wanted: &k8s_openapi::api::core::v1::VolumeDevice| {
        let path = paths.device(&wanted.name);
        let is_there = fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_block_device());
        if !is_there {
            return Err(format!("the device of volume {:?} is not there", wanted.name));
        }
        let volume = super::volumes(pod).iter().find(|volume| volume.name == wanted.name);
        let permissions = if volume.is_some_and(super::is_read_only) { "r" } else { "mrw" };
        Ok(proto::Device {
            container_path: wanted.device_path.clone(),
            host_path: path.to_string_lossy().into_owned(),
            permissions: permissions.to_owned(),
        })
    };
    container.volume_devices.iter().flatten().map(device).collect()
}

/// Binds a device to its place in the pod's directory; says whether it was not there.
///
/// # Errors
/// When it is no block device, or the system refuses.
pub fn bind(found: &OwnedFd, target: &Path) -> io::Result<bool> {
    if !fs::metadata(proc_path(found))?.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a block device"));
    }
    if subpath::is_bound(found, target)? {
        return Ok(false);
    }
    subpath::mount_at(found, target)?;
    Ok(true)
}

/// What a device is mounted with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileSystem {
    /// `ext4` where none is named.
    pub kind: Option<String>,
    /// The volume's `mountOptions`.
    pub options: Vec<String>,
    pub read_only: bool,
}

/// Mounts the file system of a device at a place of ours, and makes it first where the device is empty; says whether it was not
/// mounted there. Pods that share a volume mount the same device: the kernel has one file system for all of them.
///
/// # Errors
/// What the system's tools say.
pub fn mount_device(device: &Path, target: &Path, wanted: &FileSystem) -> Result<bool, String> {
    let failed = |error: io::Error| error.to_string();
    let device = fs::canonicalize(device).map_err(failed)?;
    let number = fs::metadata(&device).map_err(failed)?.rdev();
    while is_mounted(target).map_err(failed)? {
        if fs::metadata(target).map_err(failed)?.dev() == number {
            return Ok(false);
        }
        unmount(target).map_err(failed)?;
    }
    let kind = match file_system(&device)? {
        Some(kind) => {
            check(&device, wanted)?;
            wanted.kind.clone().unwrap_or(kind)
        }
        None if wanted.read_only => return Err(format!("failed to mount unformatted volume {} as read only", device.display())),
        None => format(&device, wanted)?,
    };
    make_mount_point(target).map_err(failed)?;
    let options = if wanted.options.is_empty() { "defaults".to_owned() } else { wanted.options.join(",") };
    let arguments = ["-t", &kind, "-o", &options];
    succeed(run(Command::new("mount").args(arguments).arg(&device).arg(target))?, "mount failed")?;
    // What containers mount in it is theirs alone.
    let change = |flags: MsFlags| mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(|error| error.to_string());
    change(MsFlags::MS_PRIVATE)?;
    if wanted.read_only {
        // This place alone: the file system is also others'.
        change(MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY)?;
    }
    Ok(true)
}

/// Makes the directory that a file system is mounted over, where it is missing.
///
/// # Errors
/// When something else is there.
pub(super) fn make_mount_point(target: &Path) -> io::Result<()> {
    let (parent, name) = place_and_name(target)?;
    Directory::make(parent, 0o750)?.make_dir(name, 0o750).map(drop)
}

/// The kind of file system on a device.
fn file_system(device: &Path) -> Result<Option<String>, String> {
    let output = run(Command::new("blkid").args(["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export"]).arg(device))?;
    if output.status.code() == Some(NOTHING_FOUND) {
        return Ok(None);
    }
    let output = succeed(output, "could not find out what is on the device")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()));
    match (value("TYPE"), value("PTTYPE")) {
        (Some(kind), _) => Ok(Some(kind)),
        (None, Some(table)) => Err(format!("{} holds partitions ({table}) and no file system", device.display())),
        (None, None) => Ok(None),
    }
}

fn format(device: &Path, wanted: &FileSystem) -> Result<String, String> {
    let kind = wanted.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(DEFAULT_FILE_SYSTEM);
    if !kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(format!("invalid file system {kind:?}"));
    }
    let mut command = Command::new(format!("mkfs.{kind}"));
    // Nothing is held back for the administrator, and nobody is asked.
    match kind {
        "ext3" | "ext4" => command.args(["-F", "-m0"]),
        "xfs" => command.arg("-f"),
        _ => &mut command,
    };
    tracing::info!(device = %device.display(), kind, "makes a file system on an empty device");
    succeed(run(command.arg(device))?, "format of disk failed")?;
    Ok(kind.to_owned())
}

/// Repairs what can be repaired without being asked. A machine without the tool mounts what there is.
fn check(device: &Path, wanted: &FileSystem) -> Result<(), String> {
    if wanted.read_only {
        return Ok(());
    }
    match run(Command::new("fsck").arg("-a").arg(device)) {
        Ok(output) if output.status.code() == Some(ERRORS_LEFT) => {
            succeed(output, "'fsck' found errors on device but could not correct them").map(drop)
        }
        Ok(_) => Ok(()),
        Err(why) => {
            tracing::debug!(device = %device.display(), why, "mounted unchecked");
            Ok(())
        }
    }
}

fn run(command: &mut Command) -> Result<Output, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))
}

fn succeed(output: Output, what: &str) -> Result<Output, String> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    Err(format!("{what}: {}: {}", output.status, said.trim()))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::OpenOptionsExt, path::PathBuf};

    use super::*;

    /// A block device of 32 MiB that goes with the test, and what is mounted of it.
    struct Loop {
        device: PathBuf,
        place: tempfile::TempDir,
    }

    impl Loop {
        fn new() -> Self {
            let place = tempfile::tempdir().expect("a directory");
            let file = place.path().join("content");
            fs::File::create(&file).and_then(|file| file.set_len(32 << 20)).expect("a file");
            let output = succeed(run(Command::new("losetup").args(["-f", "--show"]).arg(&file)).expect("runs"), "losetup").expect("a device");
            Loop { device: String::from_utf8(output.stdout).expect("text").trim().into(), place }
        }

        fn mount(&self, name: &str, wanted: &FileSystem) -> Result<bool, String> {
            mount_device(&self.device, &self.place.path().join(name), wanted)
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            crate::files::mounts::unmount_below(self.place.path()).expect("unmounts");
            succeed(run(Command::new("losetup").arg("-d").arg(&self.device)).expect("runs"), "losetup").expect("detaches");
        }
    }

    #[test]
    fn an_empty_device_gets_a_file_system_that_its_users_share() {
        let device = Loop::new();
        let read_only = FileSystem { read_only: true, ..FileSystem::default() };
        let refused = device.mount("one", &read_only).expect_err("nothing is on it");
        assert_eq!(refused, format!("failed to mount unformatted volume {} as read only", device.device.display()));
        assert_eq!(file_system(&device.device), Ok(None), "reading made nothing");
        assert_eq!(device.mount("one", &FileSystem::default()), Ok(true));
        assert_eq!(device.mount("one", &FileSystem::default()), Ok(false), "it is there");
        fs::write(device.place.path().join("one/file"), "kept").expect("writes");
        assert_eq!(device.mount("two", &FileSystem::default()), Ok(true));
        assert_eq!(fs::read_to_string(device.place.path().join("two/file")).expect("reads"), "kept");
        for name in ["one", "two"] {
            unmount(&device.place.path().join(name)).expect("unmounts");
        }
        assert_eq!(device.mount("three", &read_only), Ok(true), "what is on it is not made anew");
        let there = device.place.path().join("three");
        assert_eq!(fs::read_to_string(there.join("file")).expect("reads"), "kept");
        assert!(fs::write(there.join("file"), "x").is_err(), "it is mounted to be read");
        assert_eq!(device.mount("four", &FileSystem::default()), Ok(true));
        fs::write(device.place.path().join("four/file"), "x").expect("others write");
    }

    #[test]
    fn a_device_is_bound_as_it_is_and_nothing_else_is() {
        let device = Loop::new();
        let open = |path: &Path| -> OwnedFd { fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).expect("opens").into() };
        let target = device.place.path().join("pod/volumeDevices/v");
        assert!(bind(&open(&device.device), &target).expect("binds"));
        assert!(!bind(&open(&device.device), &target).expect("is bound"));
        let number = |path: &Path| fs::metadata(path).expect("is there").rdev();
        assert_eq!(number(&target), number(&device.device));
        assert!(bind(&open(device.place.path()), &target).is_err(), "a directory is no device");
    }
}

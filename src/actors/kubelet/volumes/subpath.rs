//! Parts of volumes: resolved by file descriptor, so that no symlink a container plants leads out of the volume.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

/// Binds `volume/sub` to `target`, making the directory when it is missing.
///
/// # Errors
/// When the path leaves the volume, or the system refuses.
pub fn bind(volume: &Path, sub: &str, target: &Path) -> io::Result<()> {
    let source = open_below(volume, sub)?;
    let proc_path = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
    if target.symlink_metadata().is_ok() && super::disk::mounts_below(target)?.iter().any(|point| point == target) {
        return Ok(());
    }
    if fs::metadata(&proc_path)?.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(target))?;
        fs::File::create(target)?;
    }
    mount(Some(&proc_path), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(io::Error::from)
}

/// Opens a path below `root`, one component at a time and never through a symlink; missing directories are made.
fn open_below(root: &Path, sub: &str) -> io::Result<OwnedFd> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, format!("subPath {sub:?} leaves the volume"));
    let mut here = open_at(libc::AT_FDCWD, &path_text(root)?, libc::O_PATH | libc::O_DIRECTORY)?;
    for part in Path::new(sub).components() {
        let name = match part {
            Component::Normal(name) => path_text(Path::new(name))?,
            Component::CurDir => continue,
            _ => return Err(refused()),
        };
        let open = || open_at(here.as_raw_fd(), &name, libc::O_PATH | libc::O_NOFOLLOW);
        let next = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_at(here.as_raw_fd(), &name)?;
                open()?
            }
            other => other?,
        };
        here = follow_own_link(root, next).map_err(|_| refused())?;
    }
    Ok(here)
}

/// The kubelet's own volumes lead through `..data`: a link is taken when it stays below the volume.
fn follow_own_link(root: &Path, fd: OwnedFd) -> io::Result<OwnedFd> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let target = fs::read_link(&path)?;
    if !target.symlink_metadata()?.is_symlink() {
        return Ok(fd);
    }
    let resolved = fs::canonicalize(&target)?;
    if !resolved.starts_with(fs::canonicalize(root)?) {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    open_at(libc::AT_FDCWD, &path_text(&resolved)?, libc::O_PATH | libc::O_NOFOLLOW)
}

fn path_text(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn open_at(directory: i32, name: &CString, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string that lives through the call; the result is checked before it is owned.
    let fd = unsafe { libc::openat(directory, name.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn make_at(directory: i32, name: &CString) -> io::Result<()> {
    // SAFETY: the name is a C string that lives through the call.
    match unsafe { libc::mkdirat(directory, name.as_ptr(), 0o755) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

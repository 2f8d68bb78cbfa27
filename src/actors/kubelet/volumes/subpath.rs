//! Parts of volumes. A path is looked up below the volume once, by descriptor, and what was found is what is mounted: a symlink that
//! a container plants or exchanges meanwhile leads out of the volume at no time.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

use crate::files::{
    Directory,
    directory::proc_path,
    mounts::{is_mounted, unmount},
    place_and_name,
};

/// Binds `volume/sub` to `target`, making directories that are missing with the volume's own mode. What was bound there before and
/// is something else by now makes room.
///
/// # Errors
/// When the path leaves the volume, or the system refuses.
pub fn bind(volume: &Path, sub: &str, target: &Path) -> io::Result<()> {
    let root = Directory::open(volume)?;
    mount_at(&find_or_make(&root, sub)?, target)
}

/// Finds a part of a volume, and makes it where it is missing. The descriptor stays what it is, whatever becomes of the path.
///
/// # Errors
/// When the path leads out of the volume.
pub(super) fn find_or_make(root: &Directory, sub: &str) -> io::Result<OwnedFd> {
    let parts = parts(sub)?;
    let whole: PathBuf = [Path::new(".")].into_iter().chain(parts.iter().map(Path::new)).collect();
    let found = match root.find(&whole) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(root, &parts).and_then(|made| made.find(Path::new("."))),
        found => found,
    };
    found.map_err(|error| explained(error, sub))
}

/// The names on a path within a volume.
fn parts(sub: &str) -> io::Result<Vec<&str>> {
    let invalid = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    let mut names = Vec::new();
    for part in Path::new(sub).components() {
        match part {
            Component::Normal(name) => names.extend(name.to_str()),
            Component::CurDir => {}
            Component::ParentDir => return invalid(format!("unable to provision SubPath `{sub}`: must not contain '..'")),
            Component::RootDir | Component::Prefix(_) => return invalid(format!("error SubPath `{sub}` must not be an absolute path")),
        }
    }
    Ok(names)
}

fn explained(error: io::Error, sub: &str) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EXDEV | libc::ELOOP) => io::Error::new(io::ErrorKind::PermissionDenied, format!("subpath {sub:?} not within volume path")),
        _ => error,
    }
}

/// Makes what is missing on a path. A link may lead to what is there, but nothing is made through one.
fn make(root: &Directory, parts: &[&str]) -> io::Result<Directory> {
    let mode = root.status()?.st_mode & 0o7777;
    let existing = |count: usize| -> io::Result<Option<Directory>> {
        let prefix: PathBuf = [Path::new(".")].into_iter().chain(parts[..count].iter().map(Path::new)).collect();
        match root.find_dir(&prefix) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    };
    let mut there = 0;
    let mut here = root.find_dir(Path::new("."))?;
    while there < parts.len() {
        let Some(next) = existing(there + 1)? else { break };
        (here, there) = (next, there + 1);
    }
    for name in &parts[there..] {
        here = here.make_dir(name, mode)?;
    }
    Ok(here)
}

/// Whether it is what was found that is mounted at a place of ours.
pub(super) fn is_bound(found: &OwnedFd, target: &Path) -> io::Result<bool> {
    if !is_mounted(target)? {
        return Ok(false);
    }
    let (bound, wanted) = (fs::symlink_metadata(target)?, fs::metadata(proc_path(found))?);
    Ok((bound.dev(), bound.ino()) == (wanted.dev(), wanted.ino()))
}

/// Mounts what was found at a place of ours.
pub(super) fn mount_at(found: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = proc_path(found);
    while is_mounted(target)? {
        if is_bound(found, target)? {
            return Ok(());
        }
        unmount(target)?;
    }
    make_room(target, fs::metadata(&source)?.is_dir())?;
    mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(io::Error::from)
}

/// Makes the directory, or the file for anything else, that is mounted over.
fn make_room(target: &Path, directory: bool) -> io::Result<()> {
    let (parent, name) = place_and_name(target)?;
    let parent = Directory::make(parent, 0o750)?;
    match fs::symlink_metadata(target) {
        Ok(old) if old.is_dir() == directory => return Ok(()),
        Ok(old) if old.is_dir() => fs::remove_dir(target)?,
        Ok(_) => fs::remove_file(target)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if directory { parent.make_dir(name, 0o750).map(drop) } else { parent.create(name, 0o640).map(drop) }
}

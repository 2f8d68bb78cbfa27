//! Who owns the files of a volume: the pod's `fsGroup`.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown, lchown},
    path::Path,
};

const SETGID: u32 = 0o2000;

/// The mode of a written file: the group may read it where there is one.
pub fn file_mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

/// Gives a written volume's directories to the group.
pub fn own_directories(directory: &Path, group: Option<u32>) -> io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    chown(directory, None, Some(group))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o750 | SETGID | (fs::metadata(directory)?.permissions().mode() & 0o777)))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            own_directories(&entry.path(), Some(group))?;
        }
    }
    Ok(())
}

/// Gives a writable volume, with all that is in it, to the group. With `lazily`, not when its root already is.
pub fn own_tree(directory: &Path, group: u32, lazily: bool) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let root = fs::metadata(directory)?;
    if lazily && root.gid() == group && root.mode() & SETGID != 0 {
        return Ok(());
    }
    own_entry(directory, group)
}

fn own_entry(path: &Path, group: u32) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    if kind.is_symlink() {
        return lchown(path, None, Some(group));
    }
    chown(path, None, Some(group))?;
    let mode = kind.permissions().mode() | if kind.is_dir() { 0o770 | SETGID } else { 0o660 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            own_entry(&entry?.path(), group)?;
        }
    }
    Ok(())
}

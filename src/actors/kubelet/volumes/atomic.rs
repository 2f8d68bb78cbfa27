//! Files that change all at once: they lie in a timestamped directory that the symlink `..data` names; user-visible
//! names are symlinks through `..data`, so renaming one symlink swaps them all.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;

use super::payload::Payload;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the directory hold exactly the payload. Gives whether anything changed.
///
/// # Errors
/// When a path leaves the directory, or the disk fails.
pub fn write(directory: &Path, payload: &Payload, group: Option<u32>, owner: Option<u32>, now: Timestamp) -> io::Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let old = fs::read_link(directory.join(DATA)).ok();
    if let Some(old) = &old
        && unchanged(&directory.join(old), payload)
    {
        return Ok(false);
    }
    let fresh = new_directory(directory, now)?;
    for (path, content) in payload {
        let target = directory.join(&fresh).join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target)?;
        file.write_all(&content.data)?;
        file.set_permissions(fs::Permissions::from_mode(super::ownership::file_mode(content.mode, group)))?;
        if group.is_some() || owner.is_some() {
            std::os::unix::fs::fchown(&file, owner, group)?;
        }
    }
    super::ownership::own_directories(&directory.join(&fresh), group)?;
    let staged = directory.join(NEW_DATA);
    remove_if_there(&staged)?;
    symlink(&fresh, &staged)?;
    fs::rename(&staged, directory.join(DATA))?;
    link_names(directory, payload)?;
    if let Some(old) = old {
        fs::remove_dir_all(directory.join(old))?;
    }
    Ok(true)
}

/// Paths stay below the directory and never collide with our own names.
fn check_path(path: &str) -> io::Result<()> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !inside || path.starts_with("..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path: {path}")));
    }
    Ok(())
}

fn unchanged(directory: &Path, payload: &Payload) -> bool {
    let same = |(path, content): (&String, &super::payload::FileContent)| fs::read(directory.join(path)).is_ok_and(|data| data == content.data);
    payload.iter().all(same) && files_below(directory).is_ok_and(|files| files.len() == payload.len())
}

fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { files.extend(files_below(&entry.path())?) } else { files.push(entry.path()) }
    }
    Ok(files)
}

fn new_directory(directory: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let stem = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    for serial in now.subsec_nanosecond()..i32::MAX {
        let name = PathBuf::from(format!("{stem}.{serial}"));
        match fs::create_dir(directory.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => {
                fs::set_permissions(directory.join(&name), fs::Permissions::from_mode(0o755))?;
                return Ok(name);
            }
        }
    }
    Err(io::Error::other("no name is free"))
}

/// Makes the user-visible names and removes those of files that are gone.
fn link_names(directory: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    for name in &wanted {
        match symlink(Path::new(DATA).join(name), directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let stale = name.to_str().is_some_and(|name| !name.starts_with("..") && !wanted.contains(name));
        if stale && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

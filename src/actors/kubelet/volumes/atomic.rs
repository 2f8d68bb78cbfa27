//! Files that change all at once: they lie in a timestamped directory that the symlink `..data` names; user-visible
//! names are symlinks through `..data`, so renaming one symlink swaps them all.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path},
};

use jiff::Timestamp;

use super::{
    ownership::{directory_mode, file_mode, own_directory},
    payload::Payload,
};
use crate::files::{Directory, directory::proc_path, remove_tree_blocking};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
/// What all our own names begin with; no file of a payload does.
const OURS: &str = "..";

/// Whose the files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    pub user: Option<u32>,
    pub group: Option<u32>,
}

/// Makes the directory hold exactly the payload. Gives whether anything changed.
///
/// # Errors
/// When a path leaves the directory, or the disk fails.
pub fn write(directory: &Directory, payload: &Payload, owners: Owners, now: Timestamp) -> io::Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let old = current(directory);
    if let Some(old) = &old
        && holds(directory, old, payload, owners)
    {
        return link_names(directory, payload);
    }
    let fresh = fresh_name(directory, now)?;
    let written = fill(directory, &fresh, payload, owners).and_then(|()| {
        directory.remove_file(NEW_DATA)?;
        directory.link(NEW_DATA, Path::new(&fresh))?;
        directory.rename(NEW_DATA, DATA)
    });
    if let Err(error) = written {
        // The first failure is what is told.
        let _ = remove_tree_blocking(&proc_path(directory).join(&fresh));
        return Err(error);
    }
    link_names(directory, payload)?;
    remove_stale(directory, &fresh)?;
    Ok(true)
}

/// Whether somebody has taken the directory's content away.
pub fn is_empty(directory: &Directory) -> bool {
    current(directory).is_none_or(|data| directory.open_dir(Path::new(&data)).is_err())
}

/// The name of the directory that `..data` leads to, if that is one of ours.
fn current(directory: &Directory) -> Option<String> {
    let target = directory.read_link(DATA).ok()?.into_os_string().into_string().ok()?;
    (target.starts_with(OURS) && target != ".." && !target.contains('/')).then_some(target)
}

/// Paths stay below the directory and never collide with our own names.
fn check_path(path: &str) -> io::Result<()> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !inside || path.starts_with(OURS) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path: {path}")));
    }
    Ok(())
}

/// Whether a directory of ours has just the files of the payload.
fn holds(directory: &Directory, data: &str, payload: &Payload, owners: Owners) -> bool {
    let Ok(data) = directory.open_dir(Path::new(data)) else { return false };
    let mut names = BTreeSet::new();
    for (path, content) in payload {
        if !is_same(&data, path, content, owners) {
            return false;
        }
        names.extend(path.split('/').next());
    }
    data.entries().is_ok_and(|entries| entries.len() == names.len())
}

fn is_same(data: &Directory, path: &str, content: &super::payload::FileContent, owners: Owners) -> bool {
    let Ok(mut file) = data.read(Path::new(path)) else { return false };
    let Ok(there) = file.metadata() else { return false };
    let as_owned = owners.user.is_none_or(|user| user == there.uid()) && owners.group.is_none_or(|group| group == there.gid());
    let as_permitted = there.permissions().mode() & 0o7777 == file_mode(content.mode, owners.group);
    if !as_owned || !as_permitted || there.len() != content.data.len() as u64 {
        return false;
    }
    let mut found = Vec::with_capacity(content.data.len());
    let read = Read::by_ref(&mut file).take(there.len()).read_to_end(&mut found);
    read.is_ok() && found == content.data
}

fn fresh_name(directory: &Directory, now: Timestamp) -> io::Result<String> {
    let stem = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let free = |name: &String| directory.metadata(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let mut names = (now.subsec_nanosecond()..i32::MAX).map(|serial| format!("{stem}.{serial}"));
    names.find(free).ok_or_else(|| io::Error::other("no name is free"))
}

fn fill(directory: &Directory, fresh: &str, payload: &Payload, owners: Owners) -> io::Result<()> {
    let made = directory.make_dir(fresh, 0o700)?;
    own_directory(&made, directory_mode(owners.group), owners.group)?;
    for (path, content) in payload {
        let (parents, name) = path.rsplit_once('/').map_or((None, path.as_str()), |(parents, name)| (Some(parents), name));
        let mut place = made.open_dir(Path::new("."))?;
        for parent in parents.into_iter().flat_map(|parents| parents.split('/')) {
            place = place.make_dir(parent, directory_mode(owners.group))?;
            own_directory(&place, directory_mode(owners.group), owners.group)?;
        }
        let mut file = place.create(name, 0o600)?;
        file.write_all(&content.data)?;
        if owners != Owners::default() {
            std::os::unix::fs::fchown(&file, owners.user, owners.group)?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(file_mode(content.mode, owners.group)))?;
    }
    Ok(())
}

/// Makes the user-visible names that are missing and removes those of files that are gone; says whether it did anything.
fn link_names(directory: &Directory, payload: &Payload) -> io::Result<bool> {
    let wanted: BTreeSet<&str> = payload.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    let mut changed = false;
    for name in &wanted {
        let target = Path::new(DATA).join(name);
        match directory.read_link(name) {
            Ok(there) if there == target => continue,
            Ok(_) => directory.remove_file(name)?,
            // Something else has the name: the link cannot be made, which tells.
            Err(_) => {}
        }
        directory.link(name, &target)?;
        changed = true;
    }
    for entry in directory.entries()? {
        let Some(name) = entry.name.to_str() else { continue };
        if entry.is_symlink && !name.starts_with(OURS) && !wanted.contains(name) {
            directory.remove_file(name)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Removes the directories of earlier writes, also of such that were interrupted.
fn remove_stale(directory: &Directory, fresh: &str) -> io::Result<()> {
    for entry in directory.entries()? {
        let Some(name) = entry.name.to_str() else { continue };
        if entry.is_dir && name.starts_with(OURS) && name != fresh {
            remove_tree_blocking(&proc_path(directory).join(name))?;
        }
    }
    Ok(())
}

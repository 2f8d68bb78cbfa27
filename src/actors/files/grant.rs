//! Giving a tree to a group: what `fsGroup` asks of a volume that outlives its pods.
//!
//! By descriptor, like everything here: a link is given itself, never what it leads to, and file systems mounted in the tree are left
//! alone. The walk holds few descriptors; a tree that is nested deeper and wider than those allow is refused.

use std::{ffi::OsStr, fs::ReadDir, io, os::fd::AsFd};

use nix::{
    errno::Errno,
    sys::stat::{FileStat, SFlag},
};

use super::directory::Directory;

/// How many directories are open on one way down.
const LEVELS: usize = 128;
/// How many directories at the end of such ways wait for their turn.
const WAITING: usize = 256;
const SET_GROUP_ID: u32 = 0o2000;

/// What a group gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub group: u32,
    /// It may only read.
    pub read_only: bool,
}

impl Grant {
    /// The mode bits that something gets beside those that it has.
    fn bits(self, directory: bool) -> u32 {
        let files = if self.read_only { 0o440 } else { 0o660 };
        if directory { files | 0o110 | SET_GROUP_ID } else { files }
    }

    /// Whether a directory has all of it.
    pub fn is_given(self, status: &FileStat) -> bool {
        let bits = self.bits(true);
        status.st_gid == self.group && status.st_mode & bits == bits
    }
}

/// Gives a directory and all that is in it to a group.
///
/// # Errors
/// When the system refuses, or the tree is nested too deep.
pub fn grant_tree(root: &Directory, grant: Grant) -> io::Result<()> {
    let mut levels: Vec<(Directory, ReadDir)> = vec![opened(root.open_dir(".".as_ref())?)?];
    let mut waiting: Vec<Directory> = Vec::new();
    loop {
        let Some((directory, listing)) = levels.last_mut() else {
            let Some(next) = waiting.pop() else { break };
            levels.push(opened(next)?);
            continue;
        };
        let Some(Ok(entry)) = listing.next() else {
            levels.pop();
            continue;
        };
        let Some(child) = give(directory, &entry.file_name(), grant)? else { continue };
        if levels.len() < LEVELS {
            levels.push(opened(child)?);
        } else if waiting.len() < WAITING {
            waiting.push(child);
        } else {
            return Err(io::Error::other("its directories are nested too deep to be given to a group"));
        }
    }
    // The root last: by it one sees whether all of it was done.
    let status = root.status()?;
    root.set_owner(None, Some(grant.group))?;
    root.set_mode(status.st_mode & 0o7777 | grant.bits(true))
}

fn opened(directory: Directory) -> io::Result<(Directory, ReadDir)> {
    let listing = directory.listing()?;
    Ok((directory, listing))
}

/// Gives one name; opens it if it is a directory. What is gone, or mounted, by now is nobody's matter.
fn give(place: &Directory, name: &OsStr, grant: Grant) -> io::Result<Option<Directory>> {
    let found = match place.find_child(name) {
        Err(Errno::ENOENT | Errno::EXDEV) => return Ok(None),
        found => found?,
    };
    let status = nix::sys::stat::fstat(found.as_fd())?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    let is_directory = kind == SFlag::S_IFDIR;
    let mode = (kind != SFlag::S_IFLNK).then_some(status.st_mode & 0o7777 | grant.bits(is_directory));
    super::directory::change_found(&found, grant.group, mode)?;
    if !is_directory {
        return Ok(None);
    }
    match place.open_child(name) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn a_tree_is_given_and_what_its_links_lead_to_is_not() {
        let place = tempfile::tempdir().expect("a directory");
        let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).expect("makes");
        for file in [tree.join("a/b/file"), outside.clone()] {
            fs::write(&file, "x").expect("writes");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("sets");
        }
        symlink(&outside, tree.join("link")).expect("links");
        let group = nix::unistd::getegid().as_raw();
        let root = Directory::open(&tree).expect("opens");
        let grant = Grant { group, read_only: false };
        assert!(!grant.is_given(&root.status().expect("is there")));
        grant_tree(&root, grant).expect("gives");
        assert!(grant.is_given(&root.status().expect("is there")));
        let of = |path: &std::path::Path| fs::metadata(path).expect("is there");
        assert_eq!((of(&tree.join("a/b/file")).mode() & 0o7777, of(&tree.join("a/b/file")).gid()), (0o660, group));
        assert_eq!(of(&tree.join("a/b")).mode() & 0o2770, 0o2770);
        assert_eq!(of(&outside).mode() & 0o7777, 0o600, "a link leads out");
        let seen = Grant { group, read_only: true };
        assert!(seen.is_given(&root.status().expect("is there")), "who may write may read");
    }
}

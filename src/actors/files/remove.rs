//! Removing a tree that others wrote, and may still write into.
//!
//! It goes down by descriptor and never up. Deeper than `LEVELS` it does not go: a directory there is moved up into the tree's root
//! and gets its turn from there, so depth costs renames, neither stack nor memory nor descriptors. What is mounted somewhere in the
//! tree stays, and is told of.

use std::{
    ffi::{OsStr, OsString},
    fs::ReadDir,
    io,
    path::{Component, Path},
};

use nix::{errno::Errno, unistd::UnlinkatFlags};
use tokio::sync::Semaphore;

use super::{blocking, directory::Directory, is_in_place};

/// How many directories are open at a time.
const LEVELS: usize = 32;
/// How many names are removed in one go.
const SLICE: usize = 2_000;
/// How often a directory may be read without any progress, while somebody still writes into it.
const PATIENCE: u32 = 100;
/// How many slices run at a time: many large trees must not take all threads for blocking work.
static SLICES: Semaphore = Semaphore::const_new(4);

/// Removes a tree, or a file, off the arbiters and in slices, so that neither other pods nor the end of the process wait for a large
/// one. That there is none is no failure. The path's directory must be nobody's but ours.
///
/// # Errors
/// When something in it cannot be removed, such as a place where something is mounted.
pub async fn remove_tree(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    work_off(move || Removal::begin(&path)).await
}

/// The same of a path below a directory: what lies between may be anybody's, and no link in it is followed.
///
/// # Errors
/// As [`remove_tree`], and when there is something else than directories on the way.
pub async fn remove_tree_below(root: &Path, path: &Path) -> io::Result<()> {
    let (root, path) = (root.to_owned(), path.to_owned());
    work_off(move || Removal::begin_below(&root, &path)).await
}

async fn work_off(begin: impl FnOnce() -> io::Result<Option<Removal>> + Send + 'static) -> io::Result<()> {
    if is_in_place() {
        // Nothing that other threads remove is waited for.
        return finish(begin()?);
    }
    let Some(mut removal) = blocking(begin).await? else { return Ok(()) };
    loop {
        let turn = SLICES.acquire().await.map_err(io::Error::other)?;
        let (back, done) = blocking(move || {
            let done = removal.slice();
            (removal, done)
        })
        .await;
        drop(turn);
        if done? {
            return Ok(());
        }
        removal = back;
    }
}

/// The same on the thread that calls.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_tree_blocking(path: &Path) -> io::Result<()> {
    finish(Removal::begin(path)?)
}

fn finish(removal: Option<Removal>) -> io::Result<()> {
    let Some(mut removal) = removal else { return Ok(()) };
    while !removal.slice()? {}
    Ok(())
}

/// A removal under way.
struct Removal {
    /// Where the tree's root is.
    place: Directory,
    /// The root and the directories on the way down.
    levels: Vec<Level>,
    /// Names that were removed or moved.
    progress: u64,
    moved: u64,
}

struct Level {
    directory: Directory,
    /// In the level above.
    name: OsString,
    listing: ReadDir,
    /// How far the removal was when this reading of the directory began.
    since: u64,
    idle: u32,
}

/// What became of a name.
enum Outcome {
    Gone,
    /// A directory with something in it.
    Full,
}

impl Removal {
    /// Opens the tree; `None` when there is none, or none any more.
    fn begin(path: &Path) -> io::Result<Option<Self>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(unusable()) };
        Removal::begin_in(Directory::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }), name)
    }

    /// The same of a path below a directory, through no link.
    fn begin_below(root: &Path, path: &Path) -> io::Result<Option<Self>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(unusable()) };
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(unusable());
        }
        let place = Directory::open(root);
        Removal::begin_in(if parent.as_os_str().is_empty() { place } else { place.and_then(|root| root.open_dir(parent)) }, name)
    }

    fn begin_in(place: io::Result<Directory>, name: &OsStr) -> io::Result<Option<Self>> {
        let place = match place {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            place => place?,
        };
        let mut removal = Removal { place, levels: Vec::new(), progress: 0, moved: 0 };
        match remove(&removal.place, name, true) {
            Ok(Outcome::Gone) => Ok(None),
            Ok(Outcome::Full) => {
                removal.descend(name)?;
                Ok(Some(removal))
            }
            Err(error) => Err(told(error, "remove", name)),
        }
    }

    /// Removes as many names as a slice has; says whether nothing is left.
    fn slice(&mut self) -> io::Result<bool> {
        for _ in 0..SLICE {
            let Some(level) = self.levels.last_mut() else { return Ok(true) };
            match level.listing.next() {
                Some(entry) => {
                    let entry = entry?;
                    // Where the file system does not tell, the kernel does when the name is to go.
                    let looks_like_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                    self.take(&entry.file_name(), looks_like_directory)?;
                }
                None => self.ascend()?,
            }
        }
        Ok(self.levels.is_empty())
    }

    /// Removes one name of the deepest open directory, or goes into it.
    fn take(&mut self, name: &OsStr, looks_like_directory: bool) -> io::Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        match remove(&level.directory, name, looks_like_directory) {
            Ok(Outcome::Gone) => self.progress += 1,
            Ok(Outcome::Full) if self.levels.len() < LEVELS => self.descend(name)?,
            Ok(Outcome::Full) => self.move_up(name)?,
            Err(error) => return Err(told(error, "remove", name)),
        }
        Ok(())
    }

    fn descend(&mut self, name: &OsStr) -> io::Result<()> {
        let above = self.levels.last().map_or(&self.place, |level| &level.directory);
        let directory = match above.open_child(name) {
            Ok(directory) => directory,
            // Something else has its name by now: the next reading shows it.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(Errno::EXDEV) => return Err(io::Error::other(format!("something is mounted at {}", shown(name)))),
            Err(error) => return Err(told(error, "open", name)),
        };
        let listing = directory.listing()?;
        self.levels.push(Level { directory, name: name.to_owned(), listing, since: self.progress, idle: 0 });
        Ok(())
    }

    /// Moves a directory of the deepest level into the root.
    fn move_up(&mut self, name: &OsStr) -> io::Result<()> {
        let (Some(root), Some(level)) = (self.levels.first(), self.levels.last()) else { return Ok(()) };
        loop {
            self.moved += 1;
            match level.directory.move_to(name, &root.directory, &format!(".removed-{}", self.moved)) {
                // Of an earlier removal that was interrupted, or somebody guesses our names.
                Err(Errno::EEXIST) => {}
                Ok(()) => {
                    self.progress += 1;
                    return Ok(());
                }
                Err(Errno::ENOENT) => return Ok(()),
                Err(error) => return Err(told(error, "move", name)),
            }
        }
    }

    /// Removes the deepest open directory after all that it listed is gone.
    fn ascend(&mut self) -> io::Result<()> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        let above = self.levels.last().map_or(&self.place, |above| &above.directory);
        match remove(above, &level.name, true) {
            Ok(Outcome::Gone) => {
                self.progress += 1;
                return Ok(());
            }
            Ok(Outcome::Full) => {}
            Err(error) => return Err(told(error, "remove", &level.name)),
        }
        // What came since, was moved here, or was left out because names vanished while it was read.
        level.idle = if self.progress == level.since { level.idle + 1 } else { 0 };
        if level.idle > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, format!("{} is written into while it is removed", shown(&level.name))));
        }
        level.since = self.progress;
        level.listing = level.directory.listing()?;
        self.levels.push(level);
        Ok(())
    }
}

/// Removes a name, whatever it is now; the kernel says whether a directory is empty.
fn remove(directory: &Directory, name: &OsStr, looks_like_directory: bool) -> nix::Result<Outcome> {
    let mut as_directory = looks_like_directory;
    for _ in 0..PATIENCE {
        let flags = if as_directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        match directory.unlink(name, flags) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(Outcome::Gone),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if as_directory => return Ok(Outcome::Full),
            Err(Errno::ENOTDIR) if as_directory => as_directory = false,
            Err(Errno::EISDIR) if !as_directory => as_directory = true,
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EBUSY)
}

fn unusable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a path of something that can be removed")
}

fn shown(name: &OsStr) -> std::path::Display<'_> {
    Path::new(name).display()
}

fn told(error: Errno, what: &str, name: &OsStr) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", shown(name)))
}

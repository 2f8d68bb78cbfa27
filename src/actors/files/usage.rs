//! How much a tree takes on disk that others wrote, and may still write into.
//!
//! Whatever it is made of, a walk holds few descriptors and little memory, and gives way to others between slices: a tree of millions
//! of files takes long, and what was found of it so far is known all the while.

use std::{
    ffi::OsStr,
    fs::ReadDir,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::stat::{FileStat, SFlag},
};
use tokio::sync::Semaphore;

use super::{blocking, directory::Directory, place_and_name};

/// How many directories are open on one way down.
const LEVELS: usize = 128;
/// How many directories at the end of such ways wait for their turn.
const WAITING: usize = 256;
/// How many names are looked at in one go.
const SLICE: usize = 2_000;
/// A walk that takes longer rests three times as long as it works, so that large trees take a quarter of a processor at most.
const SHORT: Duration = Duration::from_millis(50);
const RESTS: u32 = 3;
/// So many slices run at a time, whatever the number of walks: they take turns.
static SLICES: Semaphore = Semaphore::const_new(2);
/// The unit that `st_blocks` counts in, whatever the file system's own is.
const BLOCK: u64 = 512;

/// What something takes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Allocated, so that holes do not count.
    pub bytes: u64,
    pub inodes: u64,
    /// There is more, in directories nested too deep and wide to be looked at.
    pub beyond: bool,
}

impl std::ops::AddAssign for DiskUse {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
        self.beyond = self.beyond || other.beyond;
    }
}

impl std::iter::Sum for DiskUse {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = DiskUse::default();
        for one in all {
            sum += one;
        }
        sum
    }
}

/// What a walk has found so far; read it at any time.
#[derive(Debug, Default)]
pub struct Tally {
    bytes: AtomicU64,
    /// Thousandths: a file with several names counts in parts.
    milli_inodes: AtomicU64,
    beyond: AtomicBool,
}

impl Tally {
    /// What was found.
    pub fn sum(&self) -> DiskUse {
        DiskUse {
            bytes: self.bytes.load(Ordering::Relaxed),
            inodes: self.milli_inodes.load(Ordering::Relaxed) / 1000,
            beyond: self.beyond.load(Ordering::Relaxed),
        }
    }

    /// Counts one name. A file with several names counts for each of them with a part of it, so it need not be remembered.
    fn count(&self, status: &FileStat) {
        let directory = is_directory(status);
        let names = if directory { 1 } else { status.st_nlink.max(1) };
        let blocks = u64::try_from(status.st_blocks).unwrap_or(0);
        self.bytes.fetch_add(blocks.saturating_mul(BLOCK) / names, Ordering::Relaxed);
        self.milli_inodes.fetch_add(1000 / names, Ordering::Relaxed);
    }
}

/// Counts a tree, or a file, into `tally`; nothing where there is none. File systems mounted in it are not entered. The path's directory
/// must be nobody's but ours. With `enough`, it ends as soon as more bytes were found.
///
/// # Errors
/// When the system refuses to show something in it.
pub async fn count_tree(path: &Path, enough: Option<u64>, tally: &Arc<Tally>) -> io::Result<()> {
    let (path, counted) = (path.to_owned(), tally.clone());
    let Some(mut walk) = blocking(move || Walk::begin(&path, counted)).await? else { return Ok(()) };
    let mut worked = Duration::ZERO;
    loop {
        let turn = SLICES.acquire().await.map_err(io::Error::other)?;
        let (back, done, took) = blocking(move || {
            let began = Instant::now();
            let done = walk.slice();
            (walk, done, began.elapsed())
        })
        .await;
        drop(turn);
        if done? || enough.is_some_and(|enough| tally.sum().bytes > enough) {
            return Ok(());
        }
        worked += took;
        if worked > SHORT {
            tokio::time::sleep(took * RESTS).await;
        }
        walk = back;
    }
}

/// A walk under way.
struct Walk {
    levels: Vec<Level>,
    /// At the end of the ways down.
    waiting: Vec<Directory>,
    tally: Arc<Tally>,
}

struct Level {
    directory: Directory,
    listing: ReadDir,
}

impl Level {
    fn of(directory: Directory) -> io::Result<Self> {
        Ok(Level { listing: directory.listing()?, directory })
    }
}

impl Walk {
    /// Opens the tree; `None` when there is none, or only a file, which is counted.
    fn begin(path: &Path, tally: Arc<Tally>) -> io::Result<Option<Self>> {
        let (parent, name) = place_and_name(path)?;
        let opened = Directory::open(parent).and_then(|place| Ok((place.metadata(name)?, place)));
        let (status, place) = match opened {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            opened => opened?,
        };
        tally.count(&status);
        if !is_directory(&status) {
            return Ok(None);
        }
        let mut walk = Walk { levels: Vec::new(), waiting: Vec::new(), tally };
        walk.descend(&place, OsStr::new(name))?;
        Ok((!walk.levels.is_empty()).then_some(walk))
    }

    /// Looks at as many names as a slice has; says whether nothing is left.
    fn slice(&mut self) -> io::Result<bool> {
        for _ in 0..SLICE {
            let Some(level) = self.levels.last_mut() else {
                let Some(next) = self.waiting.pop() else { return Ok(true) };
                self.levels.push(Level::of(next)?);
                continue;
            };
            match level.listing.next() {
                Some(Ok(entry)) => self.look(&entry.file_name())?,
                // Of a directory that was removed meanwhile, too.
                Some(Err(_)) | None => drop(self.levels.pop()),
            }
        }
        Ok(false)
    }

    /// Counts one name of the deepest open directory, and goes into it if it is one.
    fn look(&mut self, name: &OsStr) -> io::Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let status = match level.directory.status_of(name) {
            // Gone meanwhile.
            Err(Errno::ENOENT) => return Ok(()),
            status => status?,
        };
        if !is_directory(&status) {
            self.tally.count(&status);
            return Ok(());
        }
        let Some(level) = self.levels.last() else { return Ok(()) };
        let Some(directory) = enter(&level.directory, name)? else { return Ok(()) };
        self.tally.count(&status);
        if self.levels.len() < LEVELS {
            self.levels.push(Level::of(directory)?);
        } else if self.waiting.len() < WAITING {
            self.waiting.push(directory);
        } else {
            self.tally.beyond.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn descend(&mut self, place: &Directory, name: &OsStr) -> io::Result<()> {
        if let Some(directory) = enter(place, name)? {
            self.levels.push(Level::of(directory)?);
        }
        Ok(())
    }
}

/// Opens a directory; `None` when it is something else by now, or something is mounted there.
fn enter(place: &Directory, name: &OsStr) -> io::Result<Option<Directory>> {
    match place.open_child(name) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(status: &FileStat) -> bool {
    SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn count(path: &Path) -> DiskUse {
        let tally = Arc::new(Tally::default());
        count_tree(path, None, &tally).await.expect("counts");
        tally.sum()
    }

    #[tokio::test]
    async fn what_is_allocated_counts_once_however_many_names_it_has() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("makes");
        let empty = count(&tree).await;
        fs::write(tree.join("a"), vec![1; 1 << 20]).expect("writes");
        let one = count(&tree).await;
        assert!(one.bytes >= empty.bytes + (1 << 20) && one.inodes == empty.inodes + 1, "{one:?}");
        for name in ["b", "c", "d"] {
            fs::hard_link(tree.join("a"), tree.join(name)).expect("links");
        }
        fs::File::create(tree.join("hole")).and_then(|file| file.set_len(1 << 30)).expect("a hole");
        std::os::unix::fs::symlink("/", tree.join("root")).expect("links");
        let more = count(&tree).await;
        assert!(more.bytes < one.bytes + (64 << 10), "neither names nor holes nor what links lead to count: {more:?}");
        assert_eq!(count(&tree.join("nothing")).await, DiskUse::default());
        assert!(count(&tree.join("a")).await.bytes >= (1 << 20) / 4, "a file counts, too");
    }

    #[tokio::test]
    async fn nothing_hides_below_many_levels_and_memory_is_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut path = dir.path().join("tree");
        fs::create_dir(&path).expect("makes");
        for _ in 0..LEVELS * 3 {
            path.push("d");
            fs::create_dir(&path).expect("makes");
        }
        fs::write(path.join("hidden"), vec![1; 1 << 20]).expect("writes");
        let all = count(&dir.path().join("tree")).await;
        assert!(all.bytes >= 1 << 20 && all.inodes >= (LEVELS * 3) as u64 + 2 && !all.beyond, "{all:?}");
        let edge = (0..LEVELS - 1).fold(dir.path().join("tree"), |path, _| path.join("d"));
        for number in 0..=WAITING {
            fs::create_dir(edge.join(number.to_string())).expect("makes");
        }
        assert!(count(&dir.path().join("tree")).await.beyond, "it is told that something was left out");
    }

    #[tokio::test]
    async fn a_walk_ends_when_it_found_enough() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("makes");
        for number in 0..SLICE * 2 {
            fs::write(tree.join(number.to_string()), "x").expect("writes");
        }
        let tally = Arc::new(Tally::default());
        count_tree(&tree, Some(1), &tally).await.expect("counts");
        assert!(tally.sum().inodes <= SLICE as u64 + 1, "{:?}", tally.sum());
    }
}

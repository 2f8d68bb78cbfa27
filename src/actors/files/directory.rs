//! An open directory, and what is done with names in it.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    NixPath,
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, readlinkat, renameat, renameat2},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat},
};

/// How often a lookup is repeated that others disturbed by renaming or mounting.
const DISTURBED: u32 = 100;

/// An open directory. All names are looked up in it, never by its path, so it does not matter what happens to that.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// What a directory lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: OsString,
    pub is_dir: bool,
    pub is_symlink: bool,
}

impl Directory {
    /// Opens a directory whose path nobody but the administrator can change; links in it are followed.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Directory(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// The same, and makes it, with those above it, where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(path: &Path, mode: u32) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        Directory::open(path)
    }

    /// Opens a directory below this one, through no link.
    ///
    /// # Errors
    /// When there is none, or something else.
    pub fn open_dir(&self, path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        look_up(&self.0, path, flags, Mode::empty(), through_no_link()).map(Directory)
    }

    /// Opens a directory right in this one, unless something is mounted there.
    pub(super) fn open_child(&self, name: &(impl NixPath + ?Sized)) -> nix::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        open_at(&self.0, name, flags, Mode::empty(), through_no_link() | ResolveFlag::RESOLVE_NO_XDEV).map(Directory)
    }

    /// Finds a name right in this directory, whatever it is, without opening it; not what is mounted there.
    pub(super) fn find_child(&self, name: &(impl NixPath + ?Sized)) -> nix::Result<OwnedFd> {
        open_at(&self.0, name, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty(), ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV)
    }

    /// Finds a path below this directory without opening what is there, for mounting it. Links count as long as they stay below.
    ///
    /// # Errors
    /// When the path, or a link on it, leads out of the directory or to nothing.
    pub fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        look_up(&self.0, path, OFlag::O_PATH, Mode::empty(), ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
    }

    /// Opens a directory below this one for making more in it; links count as long as they stay below.
    ///
    /// # Errors
    /// As [`Directory::find`], or when there is something else.
    pub fn find_dir(&self, path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        look_up(&self.0, path, flags, Mode::empty(), ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS).map(Directory)
    }

    /// Opens a regular file below this directory for reading, through no link. Pipes and devices are not touched.
    ///
    /// # Errors
    /// When there is none, or something else.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        let found = look_up(&self.0, path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty(), through_no_link())?;
        reopen(&regular(found)?, OFlag::O_RDONLY)
    }

    /// The same; links count as long as they stay below.
    ///
    /// # Errors
    /// As [`Directory::read`], or when a link leads out of the directory.
    pub fn read_linked(&self, path: &Path) -> io::Result<File> {
        reopen(&regular(self.find(path)?)?, OFlag::O_RDONLY)
    }

    /// Opens a regular file right in this directory for writing over it, and makes it where it is missing.
    ///
    /// # Errors
    /// When something else is there.
    pub fn overwrite(&self, name: &str, mode: u32) -> io::Result<File> {
        match look_up(&self.0, Path::new(name), OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty(), through_no_link()) {
            Ok(found) => reopen(&regular(found)?, OFlag::O_RDWR),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(name, mode),
            Err(error) => Err(error),
        }
    }

    /// Makes a file that must not be there yet.
    ///
    /// # Errors
    /// When the name is taken, by whatever.
    pub fn create(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let file = look_up(&self.0, Path::new(name), flags, Mode::from_bits_truncate(mode), through_no_link())?;
        // Whatever the umask is.
        fchmod(&file, Mode::from_bits_truncate(mode))?;
        Ok(File::from(file))
    }

    /// Makes a directory right in this one and opens it; gives the one that is there already, too.
    ///
    /// # Errors
    /// When something else is there.
    pub fn make_dir(&self, name: &str, mode: u32) -> io::Result<Self> {
        one_name(name)?;
        match mkdirat(&self.0, name, Mode::from_bits_truncate(mode & 0o777)) {
            Ok(()) => {
                let made = self.open_dir(Path::new(name))?;
                made.set_mode(mode)?;
                Ok(made)
            }
            Err(Errno::EEXIST) => self.open_dir(Path::new(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a symlink.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn link(&self, name: &str, target: &Path) -> io::Result<()> {
        one_name(name)?;
        Ok(symlinkat(target, &self.0, name)?)
    }

    /// Where a symlink right in this directory leads.
    ///
    /// # Errors
    /// When there is none.
    pub fn read_link(&self, name: &str) -> io::Result<PathBuf> {
        one_name(name)?;
        Ok(readlinkat(&self.0, name)?.into())
    }

    /// Renames in this directory; what had the new name is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        one_name(from)?;
        one_name(to)?;
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Moves a name of this directory to a free one in another.
    pub(super) fn move_to(&self, from: &(impl NixPath + ?Sized), other: &Directory, to: &str) -> nix::Result<()> {
        renameat2(&self.0, from, &other.0, to, RenameFlags::RENAME_NOREPLACE)
    }

    /// Removes a file or a symlink; what is gone is no failure.
    ///
    /// # Errors
    /// When the system refuses, or a directory is there.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        one_name(name)?;
        match self.unlink(name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn unlink(&self, name: &(impl NixPath + ?Sized), flags: UnlinkatFlags) -> nix::Result<()> {
        unlinkat(&self.0, name, flags)
    }

    /// What is known of a name in this directory; a symlink is told of as such.
    ///
    /// # Errors
    /// When there is none.
    pub fn metadata(&self, name: &str) -> io::Result<FileStat> {
        one_name(name)?;
        Ok(fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// The same of any name that the directory lists.
    pub(super) fn status_of(&self, name: &(impl NixPath + ?Sized)) -> nix::Result<FileStat> {
        fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// What is known of the directory itself.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn status(&self) -> io::Result<FileStat> {
        Ok(fstat(&self.0)?)
    }

    /// Sets the directory's mode, set-group-id included.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(fchmod(&self.0, Mode::from_bits_truncate(mode))?)
    }

    /// Gives the directory to a user and a group; `None` leaves what is.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        Ok(fchown(&self.0, user.map(Uid::from_raw), group.map(Gid::from_raw))?)
    }

    /// All that is in it, for directories that only we write.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut all = Vec::new();
        for entry in self.listing()? {
            let entry = entry?;
            let kind = entry.file_type()?;
            all.push(Entry { name: entry.file_name(), is_dir: kind.is_dir(), is_symlink: kind.is_symlink() });
        }
        Ok(all)
    }

    /// A reading of its own, from the beginning.
    pub(super) fn listing(&self) -> io::Result<std::fs::ReadDir> {
        std::fs::read_dir(proc_path(&self.0))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens a regular file of a container, such as its log `<root>/<pod>/<container>/<number>.log`: through no link below the root, which
/// is the administrator's.
///
/// # Errors
/// When there is none, or something else.
pub fn open_file_of_container(path: &Path) -> io::Result<File> {
    let (root, below) = root_and_rest(path, 3)?;
    Directory::open(root)?.read(below)
}

/// Opens the directory of a container's logs, `<root>/<pod>/<container>`, in the same way.
///
/// # Errors
/// When there is none, or something else.
pub fn open_directory_of_container(path: &Path) -> io::Result<Directory> {
    let (root, below) = root_and_rest(path, 2)?;
    Directory::open(root)?.open_dir(below)
}

/// A path without its last names, and those.
fn root_and_rest(path: &Path, names: usize) -> io::Result<(&Path, &Path)> {
    let root = path.ancestors().nth(names).unwrap_or(Path::new("/"));
    Ok((root, path.strip_prefix(root).map_err(io::Error::other)?))
}

/// The directory of a path and the name in it.
///
/// # Errors
/// When the path ends in no name, or in one that is no text.
pub fn place_and_name(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let place = path.parent().filter(|parent| !parent.as_os_str().is_empty()).or(Some(Path::new(".")));
    place.zip(name).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display())))
}

/// Writes a whole file: its old content is gone.
///
/// # Errors
/// When the disk refuses.
pub fn replace_content(file: &mut File, data: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    io::Seek::rewind(file)?;
    file.write_all(data)
}

/// The path under which the kernel finds what a descriptor refers to, whatever its name is now.
pub fn proc_path(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Gives what was found to a group and sets its mode; a link's has none.
pub(super) fn change_found(found: &OwnedFd, group: u32, mode: Option<u32>) -> io::Result<()> {
    fchownat(found, "", None, Some(Gid::from_raw(group)), AtFlags::AT_EMPTY_PATH)?;
    match mode {
        // After the group: changing that may take set-group-id away.
        Some(mode) => std::fs::set_permissions(proc_path(found), std::os::unix::fs::PermissionsExt::from_mode(mode)),
        None => Ok(()),
    }
}

fn through_no_link() -> ResolveFlag {
    ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS
}

fn look_up(dir: &OwnedFd, path: &Path, flags: OFlag, mode: Mode, resolve: ResolveFlag) -> io::Result<OwnedFd> {
    Ok(open_at(dir, path, flags, mode, resolve)?)
}

fn open_at(dir: &OwnedFd, path: &(impl NixPath + ?Sized), flags: OFlag, mode: Mode, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(resolve);
    let mut tries = 0;
    loop {
        match openat2(dir, path, how) {
            // Somebody renamed or mounted something just then, and the kernel cannot tell whether the path stays below.
            Err(Errno::EAGAIN) if tries < DISTURBED => tries += 1,
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

fn regular(found: OwnedFd) -> io::Result<OwnedFd> {
    if SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG {
        return Ok(found);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Opens what was found and checked.
fn reopen(found: &OwnedFd, flags: OFlag) -> io::Result<File> {
    let opened = nix::fcntl::open(&proc_path(found), flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty())?;
    Ok(File::from(opened))
}

/// The name of something right in a directory.
fn one_name(name: &str) -> io::Result<()> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only.as_bytes() == name.as_bytes() => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid name: {name}"))),
    }
}

/// Whether this kernel can look names up as this module needs it.
///
/// # Errors
/// When it cannot.
pub fn check_kernel() -> io::Result<()> {
    match Directory::open(Path::new("/"))?.find(Path::new(".")) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel has no openat2: Linux 5.6 or later is needed"))
        }
        found => found.map(drop),
    }
}

//! What is mounted below a directory, and taking it away.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use super::directory::{Directory, proc_path};

/// Mount points at and below a directory, the deepest first.
///
/// # Errors
/// When the mount table cannot be read.
pub fn mounts_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    // The table names places as they are without links.
    let real = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    Ok(points(&fs::read("/proc/self/mountinfo")?, &real))
}

/// The mount points of a mount table (proc_pid_mountinfo(5)) that lie at or below a directory, the deepest and latest first.
fn points(table: &[u8], root: &Path) -> Vec<PathBuf> {
    let all = table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(plain);
    let mut below: Vec<_> = all.filter(|point| point.starts_with(root)).collect();
    below.reverse();
    below.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    below
}

/// A path of the table without its escapes: spaces and the like stand there as octal, such as `\040`.
fn plain(escaped: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes).into()
}

/// How what is mounted below a directory gets to containers that have the directory, and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// It is on a shared mount (mount_namespaces(7)).
    Shared,
    /// It is not, and nothing is mounted below it.
    Private,
    /// It is not, and what is mounted below it would be hidden by a mount over it.
    Occupied,
}

/// Makes a directory a shared mount, as upstream's kubelet does with its own: bound over itself where it is on none. Says what it was before;
/// one that is occupied stays as it is.
///
/// # Errors
/// When the mount table cannot be read, or the system refuses.
pub fn share(directory: &Path) -> io::Result<Sharing> {
    let real = fs::canonicalize(directory)?;
    let sharing = sharing(&fs::read("/proc/self/mountinfo")?, &real);
    if sharing == Sharing::Private {
        let none = None::<&str>;
        mount(Some(&real), &real, none, MsFlags::MS_BIND, none)?;
        mount(none, &real, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)?;
    }
    Ok(sharing)
}

/// Unmounts a directory that is [bound over itself](share); any other mount stays.
///
/// # Errors
/// When the mount table cannot be read, or the system refuses.
pub fn unshare(directory: &Path) -> io::Result<()> {
    let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    if is_bound_over_itself(&fs::read("/proc/self/mountinfo")?, &real) { unmount(&real) } else { Ok(()) }
}

/// One mount of a table.
struct Mount<'a> {
    id: &'a [u8],
    parent: &'a [u8],
    device: &'a [u8],
    /// The directory of the file system that is mounted.
    root: PathBuf,
    point: PathBuf,
    is_shared: bool,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (id, parent, device, root, point) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        // Options, and then optional fields up to a dash.
        let is_shared = fields.skip(1).take_while(|field| *field != b"-").any(|field| field.starts_with(b"shared:"));
        Some(Mount { id, parent, device, root: plain(root), point: plain(point), is_shared })
    }
}

fn parsed(table: &[u8]) -> Vec<Mount<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect()
}

fn sharing(table: &[u8], directory: &Path) -> Sharing {
    let all = parsed(table);
    // Of those of one place the latest is on top.
    let lies_on = all.iter().filter(|mount| directory.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count());
    if lies_on.is_some_and(|mount| mount.is_shared) {
        return Sharing::Shared;
    }
    let is_below = |mount: &Mount<'_>| mount.point != directory && mount.point.starts_with(directory);
    if all.iter().any(is_below) { Sharing::Occupied } else { Sharing::Private }
}

/// Whether what is mounted at a directory is that directory.
fn is_bound_over_itself(table: &[u8], directory: &Path) -> bool {
    let all = parsed(table);
    let Some(over) = all.iter().rfind(|mount| mount.point == directory) else { return false };
    let Some(under) = all.iter().find(|mount| mount.id == over.parent) else { return false };
    let place = directory.strip_prefix(&under.point).map(|below| under.root.join(below));
    over.device == under.device && place.is_ok_and(|place| place == over.root)
}

/// The directories that containers write their layers into, by container, as a mount table tells: a container's root is an overlay
/// at `<runtime's directory>/<container>/rootfs`.
pub fn layers(table: &[u8]) -> BTreeMap<String, PathBuf> {
    let one = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        // Optional fields end with a dash.
        let rest = &fields[fields.iter().position(|field| *field == b"-")? + 1..];
        let [b"overlay", _, options, ..] = *rest else { return None };
        let point = plain(fields.get(4)?);
        let container = point.parent().filter(|_| point.ends_with("rootfs"))?.file_name()?.to_str()?.to_owned();
        let upper = options.split(|byte| *byte == b',').find_map(|option| option.strip_prefix(b"upperdir="))?;
        Some((container, plain(upper)))
    };
    table.split(|byte| *byte == b'\n').filter_map(one).collect()
}

/// Unmounts all that is mounted below a directory.
///
/// # Errors
/// When the mount table cannot be read, or a mount resists.
pub fn unmount_below(root: &Path) -> io::Result<()> {
    for point in mounts_below(root)? {
        unmount(&point).map_err(|error| io::Error::new(error.kind(), format!("unmount {}: {error}", point.display())))?;
    }
    Ok(())
}

/// Unmounts what is mounted at a place. That nothing is, or that the place is gone, is no failure. What is in use is detached:
/// it ends with its last user.
///
/// # Errors
/// When the system refuses.
pub fn unmount(point: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (point.parent(), point.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root is not unmounted"));
    };
    // The table told the place; a link that took a directory's place since must not lead elsewhere.
    let parent = match Directory::open(Path::new("/"))?.open_dir(parent.strip_prefix("/").map_err(io::Error::other)?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        parent => parent?,
    };
    let place = proc_path(&parent).join(name);
    match umount2(&place, MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EBUSY) => umount2(&place, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)?,
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Whether something is mounted right at `path`, be it a directory of the same file system. The kernel says so of a single place: the
/// table of all mounts is as long as pods like.
///
/// # Errors
/// When the system refuses.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(true) };
    let parent = match Directory::open(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        parent => parent?,
    };
    match is_mount(&parent, name) {
        Ok(Some(mounted)) => Ok(mounted),
        // A kernel before Linux 5.8 does not tell.
        Ok(None) => {
            let place = fs::canonicalize(path.parent().unwrap_or(path))?.join(name);
            Ok(mounts_below(&place)?.contains(&place))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether something is mounted right at a name; `None` where the kernel does not tell.
fn is_mount(directory: &Directory, name: &OsStr) -> io::Result<Option<bool>> {
    let name = CString::new(name.as_bytes())?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // A server that is gone is not asked: whether something is mounted the kernel knows by itself.
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the name ends with a zero byte, the kernel writes no more than the structure, and that is valid when it is all zeros.
    let found = unsafe {
        Errno::result(libc::statx(directory.as_fd().as_raw_fd(), name.as_ptr(), flags, 0, found.as_mut_ptr()))?;
        found.assume_init()
    };
    let root = u64::from(libc::STATX_ATTR_MOUNT_ROOT.unsigned_abs());
    Ok((found.stx_attributes_mask & root != 0).then_some(found.stx_attributes & root != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_latest_mounts_come_first() {
        let table = b"1 0 8:1 / / rw - ext4 /dev/x rw\n2 1 0:5 / /k/a rw - tmpfs t rw\n3 2 0:6 / /k/a/b\\040c rw - tmpfs t rw\n\
                     4 1 0:7 / /k/a rw - tmpfs late rw\n5 1 0:8 / /kk rw - tmpfs t rw\n";
        assert_eq!(points(table, Path::new("/k")), ["/k/a/b c", "/k/a", "/k/a"].map(PathBuf::from));
        assert_eq!(points(table, Path::new("/c")), Vec::<PathBuf>::new());
    }

    #[test]
    fn whatever_a_mount_point_is_called_it_is_found() {
        let table = b"2 1 0:5 / /k/\xff\\134040\\x\\043 rw - tmpfs t rw\n";
        assert_eq!(points(table, Path::new("/k")), [PathBuf::from(OsString::from_vec(b"/k/\xff\\040\\x#".to_vec()))]);
    }

    #[test]
    fn a_directory_is_shared_as_the_mount_is_that_it_lies_on() {
        let root = |tags: &str| format!("1 0 8:1 / / rw,relatime {tags}- ext4 /dev/x rw\n");
        let is = |table: &str| sharing(table.as_bytes(), Path::new("/k"));
        assert_eq!(
            [is(&root("shared:1 ")), is(&root("master:2 shared:1 ")), is(&root("")), is(&root("master:1 "))].map(|is| is == Sharing::Shared),
            [true, true, false, false]
        );
        assert_eq!(is(&(root("") + "2 1 0:5 / /kk rw - tmpfs t rw\n")), Sharing::Private);
        assert_eq!(is(&(root("") + "2 1 0:5 / /k/a rw shared:2 - tmpfs t rw\n")), Sharing::Occupied);
        let bound = "2 1 8:1 /k /k rw shared:3 - ext4 /dev/x rw\n";
        assert_eq!(is(&(root("") + bound + "3 2 0:5 / /k/a rw - tmpfs t rw\n")), Sharing::Shared);
        assert_eq!(is(&(root("shared:1 ") + "2 1 8:2 / /k rw - ext4 /dev/y rw\n")), Sharing::Private, "a disk of its own");
    }

    #[test]
    fn what_a_directory_lies_on_is_told_from_the_directory_itself() {
        let is = |lines: &[&str]| is_bound_over_itself(lines.join("\n").as_bytes(), Path::new("/d/k"));
        let (root, data) = ("1 0 8:1 / / rw - ext4 /dev/x rw", "2 1 8:2 /vol /d rw - btrfs /dev/y rw");
        assert!(is(&[root, "9 1 8:1 /d/k /d/k rw shared:1 - ext4 /dev/x rw"]));
        assert!(is(&[root, data, "9 2 8:2 /vol/k /d/k rw shared:1 - btrfs /dev/y rw"]), "a part of a file system is mounted above it");
        assert!(!is(&[root, data]), "nothing is mounted there");
        assert!(!is(&[root, "9 1 8:3 / /d/k rw - ext4 /dev/z rw"]), "a disk");
        assert!(!is(&[root, "9 1 8:1 /elsewhere /d/k rw - ext4 /dev/x rw"]), "another directory");
        let disk = "8 1 8:3 / /d/k rw - ext4 /dev/z rw";
        assert!(is(&[root, disk, "9 8 8:3 / /d/k rw shared:1 - ext4 /dev/z rw"]), "over a disk, which stays");
    }

    #[test]
    fn a_containers_layer_is_where_its_root_is_written() {
        let table =
            b"9 1 0:50 / /run/c/k8s.io/abc/rootfs rw,relatime shared:7 - overlay overlay rw,lowerdir=/l/1:/l/2,upperdir=/s\\040x/3/fs,workdir=/w\n\
                      8 1 0:51 / /run/c/k8s.io/ro/rootfs ro - overlay overlay ro,lowerdir=/l/1\n7 1 0:52 / /merged rw - overlay o rw,upperdir=/u\n\
                      6 1 8:1 / /rootfs rw - ext4 /dev/x rw\n";
        assert_eq!(layers(table), BTreeMap::from([("abc".to_owned(), PathBuf::from("/s x/3/fs"))]));
    }

    #[test]
    fn a_place_is_a_mount_or_is_not() {
        let place = tempfile::tempdir().expect("a directory");
        assert!(is_mounted(Path::new("/proc")).expect("tells"));
        assert!(!is_mounted(place.path()).expect("tells"));
        assert!(!is_mounted(&place.path().join("nothing")).expect("tells"));
        assert!(!is_mounted(&place.path().join("nothing/at/all")).expect("tells"));
    }
}
